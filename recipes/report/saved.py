"""The checkpoints of one stage as files: which are sound, what their manifests say, how many parameters they hold.

Sizes are compared with what `complete` lists, and the manifest's sha256; `baton run` compares every file's.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Sequence
from typing import Any

from etils import epath

from recipes import paths

_MANIFEST = "manifest/metadata"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Saved:
    """What the checkpoints of a stage tell.

    Attributes:
      manifest: of the newest sound checkpoint, or None.
      folder: that checkpoint.
      spent: (step, what the stage had spent) of every checkpoint, ascending.
      notes: what is wrong with the others, one line each.
    """

    manifest: dict[str, Any] | None
    folder: epath.Path | None
    spent: tuple[tuple[int, dict[str, float]], ...]
    notes: tuple[str, ...]


def read(stage: epath.Path) -> Saved:
    """Reads the manifests of a stage; a checkpoint that a run removes meanwhile is no longer there."""
    root, notes = stage / "checkpoints", []
    folders = sorted(_numbered(root), key=lambda folder: -int(folder.name))
    newest, at, spent = None, None, {}
    for folder in folders:
        if not (folder / "complete").exists():
            notes.append(f"the save of step {int(folder.name):,} isn't complete: under way, or interrupted")
            continue
        wrong = fault(folder) if newest is None else None
        if wrong is None:
            try:
                manifest = json.loads((folder / _MANIFEST).read_text())
                spent[manifest["step"]] = manifest["spent"]
            except (OSError, ValueError, KeyError, TypeError):
                wrong = f"{_MANIFEST} can't be read"
            else:
                newest, at = newest or manifest, at or folder
        if wrong is not None and folder.exists():
            notes.append(f"the checkpoint of step {int(folder.name):,} is damaged: {wrong}")
    notes += [
        f"the checkpoint of step {int(child.name.removeprefix('damaged-')):,} was damaged, and set aside"
        for child in sorted(stage.iterdir() if stage.is_dir() else ())
        if child.name.removeprefix("damaged-").isdigit() and child.name.startswith("damaged-")
    ]
    return Saved(manifest=newest, folder=at, spent=tuple(sorted(spent.items())), notes=tuple(notes))


def fault(folder: epath.Path) -> str | None:
    """What is wrong with a checkpoint's files against its file `complete`, by size, or None."""
    try:
        listed = json.loads((folder / "complete").read_text())
        for name, mark in listed.items():
            file = folder / name
            if not file.exists():
                return f"{name} is missing"
            if file.stat().length != mark["bytes"]:
                return f"{name} has {file.stat().length:,} bytes where {mark['bytes']:,} were written"
        wanted = listed.get(_MANIFEST, {}).get("sha256")
        if wanted and hashlib.sha256((folder / _MANIFEST).read_bytes()).hexdigest() != wanted:
            return f"{_MANIFEST} has changed since it was written"
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        return f"its file 'complete' can't be read: {' '.join(str(error).split())}"
    return None


def parameters(folder: epath.Path, frozen: Sequence[str] | None) -> dict[str, int] | None:
    """How many parameters a checkpoint holds and, given the frozen patterns, how many of them train."""
    sizes: dict[str, int] = {}
    try:
        for child in (folder / "params").iterdir():
            if (child / ".zarray").exists():
                shape = json.loads((child / ".zarray").read_text())["shape"]
                sizes[child.name.replace(".", "/")] = math.prod(shape)
    except (OSError, ValueError, KeyError):
        return None
    if not sizes:
        return None
    found = {"total": sum(sizes.values())}
    if frozen is not None:
        still = [size for path, size in sizes.items() if any(paths.matches(pattern, path) for pattern in frozen)]
        found["trainable"] = found["total"] - sum(still)
    return found


def _numbered(root: epath.Path) -> list[epath.Path]:
    return [child for child in root.iterdir() if child.name.isdigit()] if root.is_dir() else []
