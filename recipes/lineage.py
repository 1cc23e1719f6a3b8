"""The manifest of a checkpoint: what it is, how it came to be, what it cost, and the same of all it descends from."""

import functools
import importlib.metadata
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from recipes import config, recipe

FORMAT = 1
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "grain", "seqio", "t5", "tensorflow")


def manifest(
    *,
    resolved: config.Resolved,
    stage: recipe.Stage,
    step: int,
    clock: int,
    start: Mapping[str, Any],
    spent: Mapping[str, float],
    skipped: int,
    streak: int,
    best: Mapping[str, Any] | None,
    digest: str | None,
) -> dict[str, Any]:
    """A checkpoint's manifest.

    Args:
      resolved: the recipe and its gin text.
      stage: the stage it belongs to.
      step: updates of this stage.
      clock: schedule position at the stage's first step.
      start: how the stage began: `origin` (scratch or handoff), `parent`, `handoff`, `lineage`.
      spent: this stage's `tokens`, `flops` and `training_units` up to `step`.
      skipped: updates left out.
      streak: updates left out in a row, up to now.
      best: the stage's best checkpoint so far, where it looks for one.
      digest: sha256 of the parameters, or None where it wasn't computed.
    """
    return {
        "format": FORMAT,
        "recipe": resolved.value.name,
        "stage": stage.name,
        "step": step,
        "steps": stage.steps,
        "clock": clock,
        "start": {key: value for key, value in start.items() if key != "lineage"},
        "lineage": list(start["lineage"]),
        "spent": dict(spent),
        "skipped": skipped,
        "streak": streak,
        "best": best,
        "params_digest": digest,
        "vocabulary": stage.data.fingerprint(),
        "model": model(stage),
        "gin": {"hash": resolved.hash, "text": resolved.text},
        "versions": versions(),
        "commit": commit(),
    }


def model(stage: recipe.Stage) -> dict[str, Any]:
    """What a manifest says of a stage's model."""
    return {"kind": stage.model.kind, "config": repr(stage.model), "sums": stage.model.sums}


def descent(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The ancestors of a stage that starts from the checkpoint of `manifest`, the oldest first, that one included."""
    own = {
        "recipe": manifest["recipe"],
        "stage": manifest["stage"],
        "step": manifest["step"],
        "params_digest": manifest["params_digest"],
        "gin_hash": manifest["gin"]["hash"],
        **manifest["spent"],
    }
    return [*manifest["lineage"], own]


def total(lineage: Sequence[Mapping[str, Any]], name: str) -> float:
    """The sum of `tokens`, `flops` or `training_units` along a lineage."""
    return sum(entry[name] for entry in lineage)


def versions() -> dict[str, str]:
    """Versions of the packages that decide what a run computes."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@functools.cache
def commit() -> str | None:
    """The commit of the code that runs, with `+` when the tree differs from it; None where nothing tells.

    Outside a git checkout the file COMMIT tells, which `baton submit` packs.
    """
    try:
        git = ["git", "-C", str(config.ROOT)]
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changes = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        packed = config.ROOT / "COMMIT"
        return packed.read_text().strip() if packed.is_file() else None
    return head + ("+" if changes.strip() else "")
