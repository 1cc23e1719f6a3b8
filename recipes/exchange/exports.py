"""Export: a stage becomes a Hugging Face model directory, leaf by leaf."""

import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from etils import epath

from models import encoder
from models.families import known, rules
from recipes import checkpoint, recipe, trained
from recipes.exchange import tensors, vocabularies

SHARD = 5_000_000_000


def run(
    source: str, target: str, *, kind: str | None = None, dtype: str = "float32", shard: int = SHARD
) -> tuple[str, Any]:
    """Writes the newest checkpoint of the stage at `source` as the model directory `target`.

    Args:
      source: WORKDIR/STAGE.
      target: a directory to be made, or an empty one.
      kind: the family; None takes the one that the lineage was imported from, else the first that fits.
      dtype: of the tensors.
      shard: most bytes of one file.

    Returns:
      The family and the model.

    Raises:
      recipe.Mistake: the stage's model fits no family, or `target` holds something. Nothing is written.
    """
    start = trained.read(source)
    manifest, root, model, store = start.manifest, start.root, start.model, start.vocabulary
    if (fault := checkpoint.damage(root)) is not None:
        raise recipe.Mistake(f"{root} is damaged: {fault}")
    origin = next((entry for entry in manifest["lineage"] if str(entry["recipe"]).startswith("hf:")), {})
    kind, values = _family(model, kind, origin.get("stage"))
    folder = pathlib.Path(target)
    if folder.exists() and any(folder.iterdir()):
        raise recipe.Mistake(f"{target} is not empty; name another directory or remove it")
    leaves = model.abstract()
    of = known.names(model, kind)
    made = rules.bundles(of, leaves)
    strip = of.prefix if isinstance(model, encoder.Encoder) and model.head is None else ""
    shapes = {name.removeprefix(strip): shape for one in made for name, shape in one.tensors.items()}
    shapes |= {repeat: shapes[name] for repeat, name in of.unread.items()}
    folder.mkdir(parents=True, exist_ok=True)
    writer = tensors.Writer(target, shapes, dtype, shard)

    def put(bundle: rules.Bundle) -> None:
        # A function, so that one bundle's values are gone before the next one's are read.
        for name, value in rules.theirs(bundle, _read(root, leaves, bundle)):
            repeats = (repeat for repeat, of_what in of.unread.items() if of_what == name)
            for one in (name.removeprefix(strip), *repeats):
                writer.put(one, value)

    for bundle in made:
        put(bundle)
    # Left out, an id would be transformers' default, which may lie outside the vocabulary.
    ids = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), None) | origin.get("ids", {})
    if store is not None:
        found = vocabularies.save(store, target)
        ids |= {"eos_token_id": found.eos, "pad_token_id": found.pad}
        if model.kind == "encdec":
            ids["decoder_start_token_id"] = found.start
    values = ids | values | {"dtype": dtype}
    (folder / "config.json").write_text(json.dumps(values, indent=1))
    if model.kind != "encoder":
        (folder / "generation_config.json").write_text(json.dumps({"_from_model_config": True, **ids}, indent=1))
    (folder / "README.md").write_text("\n".join(_card(manifest, model, kind)))
    return kind, model


def _read(root: epath.Path, leaves: Mapping[str, Any], bundle: rules.Bundle) -> dict[str, np.ndarray]:
    there = checkpoint.abstract(root)
    missing = [path for path in bundle.leaves if path not in there or there[path].shape != leaves[path].shape]
    if missing:
        raise recipe.Mistake(f"{root} has no parameter {missing[0]} of the shape that its configuration says")
    return checkpoint.read(root, {path: there[path] for path in bundle.leaves})


def _family(model: Any, kind: str | None, origin: str | None) -> tuple[str, dict[str, Any]]:
    if kind is None and origin is not None:
        try:
            return known.write(model, origin)
        except ValueError:
            pass  # a handoff since may have made another kind of model of it
    return known.write(model, kind)


def _card(manifest: Mapping[str, Any], model: Any, kind: str) -> Iterator[str]:
    """A model card: what it is and all that it descends from."""
    yield from ("---", "library_name: transformers", "tags: [baton]", "---", "", f"# {manifest['stage']} ({kind})", "")
    yield f"Stage `{manifest['stage']}` of the Baton recipe `{manifest['recipe']}`, step {manifest['step']}."
    yield from ("", "| lineage | stage | step | tokens | FLOPs |", "|---|---|---:|---:|---:|")
    own = {name: manifest[name] for name in ("recipe", "stage", "step")} | dict(manifest["spent"])
    for entry in [*manifest["lineage"], own]:
        place = f"{entry['recipe']} | {entry['stage']} | {entry['step']}"
        yield f"| {place} | {entry['tokens']:,.0f} | {entry['flops']:.3g} |"
    yield from ("", f"Parameters: {sum(leaf.size for leaf in model.abstract().values()):,}.")
    yield f"Digest: `{manifest['params_digest']}`. Recipe hash: `{manifest['gin']['hash']}`.\n"
