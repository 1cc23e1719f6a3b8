"""Checkpoints of one stage: written by Orbax in the background, complete when their last file says so.

`checkpoints/<step>/` holds the items `params`, `opt_state` and `manifest`, and the file `complete`, written last: it
lists every other file with its size and, up to `HASHED_BYTES` a checkpoint, its sha256. A folder without it was
interrupted and is removed; one whose files differ from it is damaged, and the one before it is used, loudly.
"""

import hashlib
import json
import logging
import os
import re
from collections.abc import Iterable, Mapping
from concurrent import futures
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from recipes import agree, recipe

HASHED_BYTES = 1 << 30
COMPLETE = "complete"
log = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of the stage in `directory`; `save` returns at once, `close` waits for what is under way."""

    def __init__(self, directory: str | os.PathLike[str], save: recipe.Save):
        """Removes what an interrupted save left behind."""
        self._root = epath.Path(directory) / "checkpoints"
        self._save = save
        self.pinned: int | None = None
        """A step that stays whatever `save` says."""
        agree.first(lambda: _remove_incomplete(self._root))
        self._finishing: futures.Future[None] | None = None
        self._finisher = futures.ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._manager = ocp.CheckpointManager(
            self._root,
            item_handlers={
                "params": ocp.PyTreeCheckpointHandler(use_ocdbt=False),
                "opt_state": ocp.PyTreeCheckpointHandler(use_ocdbt=False),
                "manifest": ocp.JsonCheckpointHandler(),
            },
        )

    def save(self, step: int, params: Mapping[str, Any], opt_state: Any, manifest: Mapping[str, Any]) -> None:
        """Saves in the background; the arrays may be donated as soon as this returns."""
        self.wait()
        items = ocp.args.Composite(
            params=ocp.args.PyTreeSave(nest(params)),
            opt_state=ocp.args.PyTreeSave(names(opt_state)),
            manifest=ocp.args.JsonSave(dict(manifest)),
        )
        self._manager.save(step, args=items, force=True)
        self._finishing = self._finisher.submit(self._finish, step)

    def wait(self) -> None:
        """Returns when the save under way is complete on disk; raises what went wrong with it."""
        finishing, self._finishing = self._finishing, None
        if finishing is not None:
            finishing.result()

    def close(self) -> None:
        """Waits, and gives back the threads."""
        try:
            self.wait()
        finally:
            self._finisher.shutdown()
            self._manager.close()

    def newest(self) -> int | None:
        """The newest step whose files are as they were written; damaged ones are set aside, loudly."""
        step = agree.first(self._sound)
        self._manager.reload()
        return step

    def _sound(self) -> int | None:
        for step in sorted(steps(self._root), reverse=True):
            folder = self._root / str(step)
            fault = damage(folder)
            if fault is None:
                return step
            aside = self._root.parent / f"damaged-{step}"
            log.error("checkpoint %s is damaged (%s): set aside as %s, the one before it is used", folder, fault, aside)
            if aside.exists():
                aside.rmtree()
            folder.rename(aside)
        return None

    def forget_after(self, step: int) -> None:
        """Removes the checkpoints of later steps, so that `step` is the newest."""
        self.wait()
        agree.first(lambda: [(self._root / str(later)).rmtree() for later in steps(self._root) if later > step])
        self._manager.reload()

    def restore(self, step: int, params: Mapping[str, Any], opt_state: Any) -> tuple[dict[str, jax.Array], Any]:
        """Reads params and opt_state into the shapes, dtypes and shardings of the two abstract trees."""
        leaves = names(opt_state)
        read = self._manager.restore(
            step,
            args=ocp.args.Composite(params=_restore_args(nest(params)), opt_state=_restore_args(leaves)),
        )
        values = [read["opt_state"][name] for name in leaves]
        return flatten(read["params"]), jax.tree.unflatten(jax.tree.structure(opt_state), values)

    def _finish(self, step: int) -> None:
        """Waits for Orbax, writes `complete`, and only then removes what needn't be kept."""
        self._manager.wait_until_finished()
        if jax.process_index() == 0:
            complete(self._root / str(step))
            times = {step: (self._root / str(step) / COMPLETE).stat().mtime for step in steps(self._root)}
            for old in sorted(set(times) - kept(self._save, times) - {self.pinned}):
                (self._root / str(old)).rmtree()


def kept(save: recipe.Save, times: Mapping[int, float]) -> set[int]:
    """The steps that stay, of those saved at `times` (seconds): the newest, multiples of a step, one in some hours."""
    found = set(sorted(times)[-save.keep :])
    if save.keep_every:
        found |= {step for step in times if step % save.keep_every == 0}
    if save.keep_hours:
        last = -float("inf")
        for step in sorted(times):
            if times[step] - last >= 3600 * save.keep_hours:
                found.add(step)
                last = times[step]
    return found


def complete(folder: str | os.PathLike[str]) -> None:
    """Writes the file that makes a checkpoint's folder complete."""
    folder = epath.Path(folder)
    files = _files(folder)
    hashed = sum(file.stat().length for file in files) <= HASHED_BYTES
    record = {str(file.relative_to(folder)): _mark(file, hashed) for file in files}
    temporary = folder / f"{COMPLETE}.tmp"
    temporary.write_text(json.dumps(record, indent=0))
    temporary.replace(folder / COMPLETE)


def steps(root: str | os.PathLike[str]) -> list[int]:
    """The complete steps under a `checkpoints` folder, ascending."""
    root = epath.Path(root)
    if not root.is_dir():
        return []
    return sorted(int(child.name) for child in root.iterdir() if child.name.isdigit() and (child / COMPLETE).exists())


def damage(folder: str | os.PathLike[str]) -> str | None:
    """What is wrong with a checkpoint's files against its `complete` file, or None."""
    folder = epath.Path(folder)
    try:
        record = json.loads((folder / COMPLETE).read_text())
    except (OSError, ValueError) as error:
        return f"its file {COMPLETE!r} can't be read: {error}"
    for name, mark in record.items():
        file = folder / name
        if not file.exists():
            return f"{name} is missing"
        now = _mark(file, "sha256" in mark)
        if now != mark:
            return f"{name} has changed since it was written"
    return None


def manifest(stage: str | os.PathLike[str], step: int | None = None) -> dict[str, Any]:
    """The manifest of a stage's checkpoint (default: its newest); raises Mistake when there is none."""
    root = epath.Path(stage) / "checkpoints"
    found = steps(root)
    if not found or (step is not None and step not in found):
        raise recipe.Mistake(
            f"{stage} holds no complete checkpoint{'' if step is None else f' of step {step}'}; found {found}"
        )
    text = (root / str(found[-1] if step is None else step) / "manifest" / "metadata").read_text()
    return json.loads(text)


def abstract(folder: str | os.PathLike[str], item: str = "params") -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and dtypes of one item of a checkpoint's folder, read from metadata alone."""
    handler = ocp.PyTreeCheckpointHandler(use_ocdbt=False)
    tree = handler.metadata(epath.Path(folder) / item).tree
    return {
        path: jax.ShapeDtypeStruct(leaf.shape, np.dtype(leaf.dtype) if leaf.dtype is not None else np.float32)
        for path, leaf in flatten(tree).items()
    }


def read(folder: str | os.PathLike[str], leaves: Mapping[str, Any], item: str = "params") -> dict[str, Any]:
    """Reads some leaves of one item into the shapes and shardings given; without shardings, as numpy arrays."""
    checkpointer = ocp.Checkpointer(ocp.PyTreeCheckpointHandler(use_ocdbt=False))
    tree = nest(leaves)
    arguments = jax.tree.map(_restore_arg, tree)
    with checkpointer:
        return flatten(
            checkpointer.restore(
                epath.Path(folder) / item,
                args=ocp.args.PyTreeRestore(item=tree, restore_args=arguments, partial_restore=True),
            )
        )


def digest(params: Mapping[str, Any]) -> str:
    """sha256 over the sorted leaves: path, dtype, shape and bytes of each; of several processes, on all of them."""
    return _digest((path, params[path]) for path in sorted(params))


def digest_of(folder: str | os.PathLike[str]) -> str:
    """The same of a checkpoint's folder, read leaf by leaf."""
    leaves = abstract(folder)
    return _digest((path, read(folder, {path: leaves[path]})[path]) for path in sorted(leaves))


def _digest(leaves: Iterable[tuple[str, Any]]) -> str:
    total = hashlib.sha256()
    for path, value in leaves:
        array = agree.whole(value)
        total.update(f"{path} {array.dtype} {array.shape}\n".encode())
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """{'a/b': x} as {'a': {'b': x}}."""
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        *parents, name = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = value
    return tree


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{'a': {'b': x}} as {'a/b': x}."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= flatten(value, f"{prefix}{name}/") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat


def names(tree: Any) -> dict[str, Any]:
    """An optimizer state as one flat dict, each leaf named by where it stands."""
    named = jax.tree_util.tree_leaves_with_path(tree)
    return {re.sub(r"[^\w-]+", ".", jax.tree_util.keystr(path)).strip("."): leaf for path, leaf in named} or {
        "none": np.zeros(())
    }


def _restore_arg(leaf: Any) -> Any:
    sharding = getattr(leaf, "sharding", None)
    if sharding is None:
        return ocp.RestoreArgs(restore_type=np.ndarray, dtype=leaf.dtype)
    return ocp.ArrayRestoreArgs(sharding=sharding, global_shape=leaf.shape, dtype=leaf.dtype)


def _restore_args(tree: Any) -> Any:
    return ocp.args.PyTreeRestore(item=tree, restore_args=jax.tree.map(_restore_arg, tree))


def _files(folder: epath.Path) -> list[epath.Path]:
    found: list[epath.Path] = []
    for child in sorted(folder.iterdir()):
        if child.is_dir():
            found += _files(child)
        elif not child.name.startswith(COMPLETE):
            found.append(child)
    return found


def _mark(file: epath.Path, hashed: bool) -> dict[str, Any]:
    mark: dict[str, Any] = {"bytes": file.stat().length}
    return mark | {"sha256": hashlib.sha256(file.read_bytes()).hexdigest()} if hashed else mark


def _remove_incomplete(root: epath.Path) -> None:
    if not root.is_dir():
        return
    for child in root.iterdir():
        if child.is_dir() and not (child / COMPLETE).exists():
            log.warning("removing %s: its save was interrupted", child)
            child.rmtree()
