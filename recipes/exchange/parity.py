"""The check that ends every conversion: the same numbers on both sides."""

import importlib.util
import json
import pathlib
from typing import Any

import numpy as np
from etils import epath

from models.families import rules
from recipes import checkpoint
from recipes.exchange import imports

LARGEST = 300_000_000
"""Parameters up to which both models are run; beyond, one tensor is held at a time."""


def line(directory: str, stage: str) -> str:
    """Compares a model directory with a stage and says the largest difference in one line.

    Where torch and transformers are installed and the model isn't too large, both are run on a random batch;
    otherwise each tensor is compared with what the stage's parameters make of it.
    """
    source = imports.open_(directory)
    sizes = sum(leaf.size for leaf in source.model.abstract().values())
    there = all(importlib.util.find_spec(name) is not None for name in ("torch", "transformers"))
    if there and sizes <= LARGEST:
        worst, largest = logits(source, stage)
        return f"parity: largest difference {worst:.2e} in numbers up to {largest:.1f}, against transformers"
    why = "torch is not installed" if not there else f"{sizes:,} parameters are too many to run twice"
    return _line(tensors_(source, stage), why)


def round_trip(source: imports.Source, stage: str) -> str:
    """The same for what transformers does not read."""
    return _line(tensors_(source, stage), f"{source.kind} is not run by transformers")


def _line(worst: float, why: str) -> str:
    return f"parity: largest difference {worst:.2e} over all tensors, by the name map's round trip ({why})"


def tensors_(source: imports.Source, stage: str) -> float:
    """Largest difference between a directory's tensors and those that a stage's parameters make."""
    root = _root(stage)
    there = checkpoint.abstract(root)

    def worst(bundle: rules.Bundle) -> float:
        # A function, so that one bundle's values are gone before the next one's are read.
        values = checkpoint.read(root, {path: there[path] for path in bundle.leaves})
        pairs = ((value, source.read(name)) for name, value in rules.theirs(bundle, values))
        return max(float(np.max(np.abs(value - theirs.astype(np.float32)), initial=0)) for value, theirs in pairs)

    return max(worst(bundle) for bundle in source.bundles)


def logits(source: imports.Source, stage: str) -> tuple[float, float]:
    """Largest difference between transformers' and our outputs on a random batch, and the largest of theirs."""
    import torch  # pyright: ignore[reportMissingImports]  installed by hand
    import transformers

    name = json.loads((pathlib.Path(source.directory) / "config.json").read_text())["architectures"][0]
    theirs: Any = getattr(transformers, name).from_pretrained(source.directory, dtype=torch.float32).eval()
    if source.kind == "umt5":
        # transformers 5 scales umT5's outputs whatever the file's tie_word_embeddings says; the file is right.
        theirs.config.tie_word_embeddings = getattr(source.model, "logit_scale", "none") == "width"
    root = _root(stage)
    params = checkpoint.read(root, checkpoint.abstract(root))
    batch, asked = _batch(source.model)
    output = source.model.apply(params, batch)
    ours = output.hidden if output.readout is None else output.readout.logits(output.hidden)
    ours = ours if output.logits is None else output.logits
    with torch.no_grad():
        found = theirs(**{key: torch.tensor(value).long() for key, value in asked.items()})
    expected = (found.logits if "logits" in found else found.last_hidden_state).numpy()
    return float(np.max(np.abs(np.asarray(ours) - expected))), float(np.max(np.abs(expected)))


def _root(stage: str) -> epath.Path:
    return epath.Path(stage) / "checkpoints" / str(checkpoint.manifest(stage)["step"])


def _batch(model: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """A random batch for our model, and the same for transformers'."""
    rng, first = np.random.default_rng(0), min(5, model.vocabulary // 2)  # no pad, which some models leave out

    def side(name: str, length: int) -> dict[str, Any]:
        ids = rng.integers(first, model.vocabulary, (2, length), dtype=np.int32)
        places = np.broadcast_to(np.arange(length, dtype=np.int32), ids.shape)
        return {f"{name}_inputs": ids, f"{name}_segments": np.ones_like(ids), f"{name}_positions": places}

    batch = side("decoder" if model.kind == "decoder" else "encoder", 13)
    if model.kind == "encdec":
        batch |= side("decoder", 11)
        return batch, {"input_ids": batch["encoder_inputs"], "decoder_input_ids": batch["decoder_inputs"]}
    return batch, {"input_ids": batch[f"{model.kind}_inputs"]}
