"""The whole idea on the built-in corpus, on a laptop: vocabulary, token store, two ways to two models, one table."""

import pathlib
import shutil
import time

from recipes import config, progress, recipe, run, summary
from tasks import quiet

DOCUMENTS = 2000
SENTENCES = 40_000
SIZE = 3000
HELD_OUT = 0.02
MARK = "made_by_baton_demo"


def run_demo(workdir: str) -> None:
    """Trains and scores everything in `workdir`: new, empty, or an earlier demo's, which is removed."""
    console = progress.console()
    began = time.monotonic()
    folder = pathlib.Path(workdir)
    if folder.exists() and any(folder.iterdir()) and not (folder / MARK).exists():
        raise recipe.Mistake(f"{workdir} holds something else than a demo; name another --workdir")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / MARK).touch()

    console.print("demo: starting TensorFlow, which SeqIO needs", highlight=False)
    quiet.load("seqio")
    from tasks import corpora, tokenize, vocabulary

    text = corpora.parse([f"cldr:{DOCUMENTS}"])
    console.print(f"demo: a vocabulary of {SIZE} ids on text in {len(text)} languages", highlight=False)
    vocabulary.train(text, str(folder / "vocabulary"), size=SIZE, sentences=SENTENCES, alpha=0.5)
    console.print("demo: the token store, which every stage reads", highlight=False)
    with progress.of_store(console) as told:
        tokenize.build(text, str(folder / "vocabulary"), str(folder / "store"), validation=HELD_OUT, progress=told)
    resolved = config.load("demo", [f"STORE='{folder / 'store'}'", f"VOCABULARY={SIZE}"])
    run.run(resolved, str(folder / "run"), console=console)
    summary.show(resolved.value, str(folder / "run"), console)
    console.print(f"demo: {time.monotonic() - began:.0f} seconds; everything is in {workdir}", highlight=False)
