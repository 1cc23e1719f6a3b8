"""Reproduces Soltan et al. 2023 at a small scale: pretraining, fine-tuning, and the page with the verdicts.

    python docs/results/soltan2023.py run --data ../shared/data --workdir runs/soltan2023   resumes; some hours, 2 cores
        [--jobs 2]   so many commands at a time, the cores divided among them
    python docs/results/soltan2023.py page --workdir runs/soltan2023                         the tables of soltan2023.md

`run` calls `baton` alone and prints each command; `page` reads what the runs left behind. The rule of the verdicts was
fixed before the first run: see `verdict`.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import queue
import shlex
import statistics
import subprocess
import sys
from collections.abc import Sequence

from recipes import interval

HERE = pathlib.Path(__file__).resolve().parent
MODELS = (
    "roberta_12e",
    "bart_12e12d",
    "bart_12e12d_mask",
    "bart_12e2d",
    "bart_12e2d_mask",
    "bart_12e1d_mask",
    "bart_12e12d_mlm",
    "two_stage_bart_12e12d",
    "two_stage_bart_12e12d_attn_f",
    "two_stage_bart_12e12d_unfrz",
)
PAIRS = ("roberta_12e", "bart_12e12d", "two_stage_bart_12e12d", "two_stage_bart_12e12d_frozen", MODELS[-1])
"""The stages that carry a claim: a second pretraining seed for these."""
SEEDS = (0, 2)
LABELLING = ("udpos", "ner")
ENCODERS = MODELS[:7]
"""Whose encoder a claim is about; in the models that stay frozen it is roberta_12e's."""
WRITERS = (MODELS[1], *MODELS[7:])
"""Whose writing a claim is about."""
MARGIN = 0.01
"""Two models score alike if the interval of their difference lies within a point."""
SETTINGS = (
    "LENGTH=64", "STEPS=300", "EVERY=100", "PATIENCE=3", "RATES=(1e-3,)", "SEEDS=3", "BATCH=16",
    "examples.Examples.limit=1000",
)  # fmt: skip
"""Of fine-tuning; the limit holds for what is learnt, watched and scored alike."""


def prepare(data: pathlib.Path, home: pathlib.Path) -> list[list[str]]:
    """The vocabulary and the token store."""
    text = str(data / "pretrain" / "??.txt.gz")
    return [
        ["vocab", text, "--size", "8000", "--sentences", "200000", "--alpha", "0.5", "--out", str(home / "vocabulary")],
        ["store", text, "--vocabulary", str(home / "vocabulary"), "--validation", "0.01", "--out", str(home / "store")],
    ]


def pretrain(home: pathlib.Path, seed: int) -> list[str]:
    """The models of a pretraining seed."""
    recipe = f"soltan2023/small/{'grid' if seed == SEEDS[0] else 'pairs'}"
    bindings = [f"STORE='{home / 'store'}'", f"SEED={seed}"]
    return ["run", recipe, *_set(*bindings), "--workdir", str(home / f"seed_{seed}")]


def finetune(data: pathlib.Path, home: pathlib.Path, seed: int) -> list[list[str]]:
    """What is learnt from the models of a pretraining seed."""
    made, folders = [], _set(f"TASKS='{data / 'tasks'}'")
    for model in MODELS:
        if seed != SEEDS[0] and model not in PAIRS:
            continue
        start = ["eval", str(home / f"seed_{seed}" / model)]
        if model in ENCODERS:
            made += [[*start, task, *folders, *_set(*SETTINGS)] for task in LABELLING]
        if model in WRITERS:
            made.append([*start, "cldr_translate", *_set(*SETTINGS)])
    return made


def _set(*bindings: str) -> list[str]:
    return [word for binding in bindings for word in ("--set", binding)]


def run(data: pathlib.Path, home: pathlib.Path, jobs: int) -> None:
    """Runs what isn't done yet, `jobs` commands at a time; a seed is scored as soon as its models are trained."""
    home.mkdir(parents=True, exist_ok=True)
    cores: queue.SimpleQueue[set[int]] = queue.SimpleQueue()
    own = sorted(os.sched_getaffinity(0))
    for job in range(jobs):
        cores.put(set(own[job::jobs]))
    for words in prepare(data, home):
        _baton(words, home, set(own))

    def baton(words: Sequence[str]) -> None:
        mine = cores.get()
        try:
            _baton(words, home, mine)
        finally:
            cores.put(mine)

    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        trained = {pool.submit(baton, pretrain(home, seed)): seed for seed in SEEDS}
        scored = []
        for future in concurrent.futures.as_completed(trained):
            future.result()
            scored += [pool.submit(baton, words) for words in finetune(data, home, trained[future])]
        for future in scored:
            future.result()


def _baton(words: Sequence[str], home: pathlib.Path, cores: set[int]) -> None:
    mark = home / "done" / shlex.join(words).replace("/", "_")[:200]
    if mark.exists():
        return
    print("$ baton", shlex.join(words), flush=True)
    command = [pathlib.Path(sys.executable).parent / "baton", *words]
    code = subprocess.run(command, preexec_fn=lambda: os.sched_setaffinity(0, cores)).returncode
    if code:
        raise SystemExit(code)
    mark.parent.mkdir(exist_ok=True)
    mark.touch()


def score(home: pathlib.Path, seed: int, model: str, task: str, train: str = "en") -> list[float] | None:
    """One score a fine-tuning seed: the mean over all languages but the one that was learnt (all, where it is one)."""
    file = home / f"seed_{seed}" / model / "eval" / task / "scores.json"
    if not file.exists():
        return None
    found = json.loads(file.read_text())
    parts = {name: values["values"] for name, values in found["parts"].items() if not name.endswith(f":{train}")}
    if not parts:
        return found["test"]["values"]
    return [statistics.fmean(values) for values in zip(*parts.values(), strict=True)]


def effect(home: pathlib.Path, one: str, other: str, tasks: tuple[str, ...]) -> dict | None:
    """`one` minus `other`, task by task and seed by seed: mean, 95 % interval (Student's t), and each seed's mean."""
    differences: dict[int, list[float]] = {}
    for seed in SEEDS:
        for task in tasks:
            a, b = score(home, seed, one, task), score(home, seed, other, task)
            if a is not None and b is not None:
                differences.setdefault(seed, []).extend(x - y for x, y in zip(a, b, strict=True))
    values = [value for each in differences.values() for value in each]
    half = interval.half(values)
    if half is None:
        return None
    return {
        "mean": statistics.fmean(values),
        "half": half,
        "n": len(values),
        "seeds": {seed: statistics.fmean(each) for seed, each in differences.items()},
    }


def verdict(found: dict | None, claim: str) -> str:
    """`below`: the interval lies below 0. `alike`: it lies within MARGIN of 0. Pretraining seeds must agree in sign.

    The opposite (above 0, or wholly outside MARGIN) is *not reproduced*, anything else *undecided at this scale*.
    """
    if found is None:
        return "not run"
    low, high = found["mean"] - found["half"], found["mean"] + found["half"]
    agree = len({value > 0 for value in found["seeds"].values()}) == 1
    if claim == "below":
        yes, no = high < 0 and agree, low > 0 and agree
    else:
        yes, no = -MARGIN <= low and high <= MARGIN, low > MARGIN or high < -MARGIN
    return "reproduced" if yes else "not reproduced" if no else "undecided at this scale"


CLAIMS = (
    ("The encoder of a seq2seq model is below an MLM encoder on token labelling", "below", LABELLING,
     (("bart_12e12d", "roberta_12e"),)),
    ("Mask tokens instead of dropped spans do not close the gap", "below", LABELLING,
     (("bart_12e12d_mask", "roberta_12e"),)),
    ("Small decoders do not close it", "below", LABELLING,
     (("bart_12e2d", "roberta_12e"), ("bart_12e2d_mask", "roberta_12e"), ("bart_12e1d_mask", "roberta_12e"))),
    ("A little more MLM does not close it (recipe 1)", "below", LABELLING, (("bart_12e12d_mlm", "roberta_12e"),)),
    ("With its encoder frozen throughout, a warm start is below scratch", "below", ("cldr_translate",),
     (("two_stage_bart_12e12d", "bart_12e12d"), ("two_stage_bart_12e12d_attn_f", "bart_12e12d"))),
    ("Unfrozen partway, it matches scratch (recipe 2)", "alike", ("cldr_translate",),
     (("two_stage_bart_12e12d_unfrz", "bart_12e12d"),)),
)  # fmt: skip


def claims(home: pathlib.Path) -> str:
    """The table of claims."""
    rows = [
        "| claim | difference of | effect, points | 95 % interval | n | by pretraining seed | verdict |",
        "|---|---|---|---|---|---|---|",
    ]
    for text, kind, tasks, pairs in CLAIMS:
        for one, other in pairs:
            found = effect(home, one, other, tasks)
            said = f"| {text} | `{one}` − `{other}`, {', '.join(tasks)} | "
            if found is None:
                rows.append(said + "– | – | 0 | – | not run |")
                continue
            seeds = ", ".join(f"{seed}: {100 * value:+.2f}" for seed, value in found["seeds"].items())
            span = f"{100 * (found['mean'] - found['half']):+.2f} to {100 * (found['mean'] + found['half']):+.2f}"
            rows.append(
                f"{said}{100 * found['mean']:+.2f} | {span} | {found['n']} | {seeds} | **{verdict(found, kind)}** |"
            )
    return "\n".join(rows)


def scores(home: pathlib.Path) -> str:
    """Every model's scores: mean over seeds, and what pretraining cost."""
    tasks = (*LABELLING, "cldr_translate")
    rows = [
        f"| model | {' | '.join(tasks)} | last validation loss | tokens | FLOPs, lineage |",
        "|---|" + "---|" * (len(tasks) + 3),
    ]
    for model in MODELS:
        cells = []
        for task in tasks:
            found = [value for seed in SEEDS for value in score(home, seed, model, task) or []]
            spread = f" ± {100 * statistics.stdev(found):.1f}" if len(found) > 1 else ""
            cells.append(f"{100 * statistics.fmean(found):.1f}{spread} ({len(found)})" if found else "–")
        done = home / f"seed_{SEEDS[0]}" / model / "done"
        if not done.exists():
            rows.append(f"| `{model}` | {' | '.join(cells)} | – | – | – |")
            continue
        record, lineage = json.loads(done.read_text()), _lineage(done.parent)
        loss = record["scores"]["validation/loss"]
        rows.append(
            f"| `{model}` | {' | '.join(cells)} | {loss:.3f} | {record['spent']['tokens']:,} | "
            f"{sum(entry['flops'] for entry in lineage):.3g} |"
        )
    return "\n".join(rows)


def _lineage(stage: pathlib.Path) -> list[dict]:
    newest = max((path.parent for path in stage.glob("checkpoints/*/complete")), key=lambda path: int(path.name))
    manifest = json.loads((newest / "manifest" / "metadata").read_text())
    own = {"stage": manifest["stage"], "params_digest": manifest["params_digest"], **manifest["spent"]}
    return [*manifest["lineage"], own]


def savings(home: pathlib.Path) -> str:
    """Training units of both ways to an encoder and a seq2seq model, from the ledgers in the checkpoints."""
    rows = ["| way | training units | against both from scratch |", "|---|---|---|"]
    folder = home / f"seed_{SEEDS[0]}"

    def units(*finals: str) -> float:
        once = {entry["params_digest"]: entry for final in finals for entry in _lineage(folder / final)}
        return sum(entry["training_units"] for entry in once.values())

    both = units("roberta_12e", "bart_12e12d")
    for name, finals in (
        ("both from scratch", ("roberta_12e", "bart_12e12d")),
        ("recipe 1: seq2seq, its encoder and a little MLM", ("bart_12e12d_mlm",)),
        ("recipe 2, frozen throughout", ("two_stage_bart_12e12d",)),
        ("recipe 2, unfrozen partway", ("two_stage_bart_12e12d_unfrz",)),
    ):
        rows.append(f"| {name} | {units(*finals):.3e} | {1 - units(*finals) / both:+.1%} saved |")
    return "\n".join(rows)


def page(home: pathlib.Path) -> None:
    """Puts the tables between the page's marks; its words stay."""
    file = HERE / "soltan2023.md"
    text = file.read_text()
    for mark, table in (("claims", claims), ("scores", scores), ("savings", savings)):
        head, _, rest = text.partition(f"<!-- {mark} -->\n")
        _, _, tail = rest.partition(f"<!-- end {mark} -->")
        text = f"{head}<!-- {mark} -->\n{table(home)}\n<!-- end {mark} -->{tail}"
    file.write_text(text)


def main() -> None:
    """One of the two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "page"))
    parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path("../shared/data"))
    parser.add_argument("--workdir", type=pathlib.Path, default=pathlib.Path("runs/soltan2023"))
    parser.add_argument("--jobs", type=int, default=1, help="commands at a time, on cores of their own")
    given = parser.parse_args()
    if given.what == "run":
        run(given.data, given.workdir, given.jobs)
    page(given.workdir)


if __name__ == "__main__":
    main()
