"""The start of a stage, decided in one function: its own checkpoint, else the handoff, else scratch."""

import dataclasses
import json
import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from etils import epath

from recipes import agree, checkpoint, handoff, lineage, paths, recipe
from recipes import state as states


@dataclasses.dataclass(frozen=True, kw_only=True)
class Start:
    """Where a stage begins, or goes on.

    Attributes:
      state: the state, on its devices.
      resumed: whether it is the stage's own checkpoint.
      tokens: tokens that the stage has seen so far.
      record: for the manifests: `origin`, `parent`, `handoff`, `lineage`.
      best: the best checkpoint that the stage has found before, see recipes/selection.py.
    """

    state: states.TrainState
    resumed: bool
    tokens: int
    record: Mapping[str, Any]
    best: Mapping[str, Any] | None = None


def source_folder(start: recipe.Handoff, workdir: epath.Path) -> epath.Path:
    """The directory of the stage that `start` reads."""
    return epath.Path(start.source) if recipe.is_directory(start.source) else workdir / start.source


def clock(stage: recipe.Stage, workdir: epath.Path) -> int:
    """The schedule position at the stage's first step: where its source stood, when the handoff carries the clock."""
    if stage.start is None or "clock" not in stage.start.carry:
        return 0
    folder = source_folder(stage.start, workdir)
    found = agree.first(lambda: checkpoint.manifest(folder))
    return found["clock"] + found["step"]


def decide(
    stage: recipe.Stage, layout: states.Layout, checkpoints: checkpoint.Checkpoints, workdir: epath.Path
) -> Start:
    """The state that the stage goes on from. The first rule that applies:

    1. The stage has a checkpoint of its own: the newest sound one.
    2. The stage starts from a handoff: the newest sound checkpoint of its source, by the plan.
    3. Scratch.
    """
    step = checkpoints.newest()
    if step is not None:
        return _resume(stage, step, layout, checkpoints, workdir)
    if stage.start is not None:
        return _hand_over(stage, stage.start, layout, workdir)
    params = states.initial(stage, layout, layout.leaves)
    record = {"origin": "scratch", "parent": None, "handoff": None, "lineage": []}
    return Start(state=states.begin(layout, params), resumed=False, tokens=0, record=record)


def _resume(
    stage: recipe.Stage, step: int, layout: states.Layout, checkpoints: checkpoint.Checkpoints, workdir: epath.Path
) -> Start:
    manifest = agree.first(lambda: checkpoint.manifest(workdir / stage.name, step))
    params, opt_state = checkpoints.restore(step, layout.shapes.params, layout.shapes.opt_state)
    scalars = {name: states.zero(layout, manifest[name]) for name in ("step", "skipped", "streak")}
    state = states.TrainState(params=params, opt_state=opt_state, **scalars)
    record = {**manifest["start"], "lineage": manifest["lineage"]}
    return Start(
        state=state, resumed=True, tokens=int(manifest["spent"]["tokens"]), record=record, best=manifest.get("best")
    )


def _hand_over(stage: recipe.Stage, start: recipe.Handoff, layout: states.Layout, workdir: epath.Path) -> Start:
    folder, manifest, root, source, plan = _planned(stage, start, layout, workdir)
    params = _read(root, plan, source, layout)
    params |= states.initial(stage, layout, [entry.target for entry in plan.fresh])
    state = states.begin(layout, params)
    carried: dict[str, Any] = {}
    if "opt_state" in start.carry:
        opt_state, carried = _carry(root, plan, state.opt_state, layout, stage)
        state = dataclasses.replace(state, opt_state=opt_state)
    parent = {"directory": str(folder), "step": manifest["step"], "params_digest": manifest["params_digest"]}
    record = {
        "origin": "handoff",
        "parent": parent,
        "handoff": plan.json()["parameters"] | {"carry": list(start.carry)} | carried,
        "lineage": lineage.descent(manifest),
    }
    if jax.process_index() == 0:
        (workdir / stage.name / "handoff.json").write_text(json.dumps(parent | plan.json() | carried, indent=1))
    return Start(state=state, resumed=False, tokens=0, record=record)


def _planned(stage: recipe.Stage, start: recipe.Handoff, layout: states.Layout, workdir: epath.Path) -> Any:
    """The source's folder, its manifest, its checkpoint, that one's leaves, and the plan; Mistake where it can't be."""
    folder = source_folder(start, workdir)
    manifest = agree.first(lambda: checkpoint.manifest(folder))
    root = folder / "checkpoints" / str(manifest["step"])
    fault = agree.first(lambda: checkpoint.damage(root))
    if fault:
        raise recipe.Mistake(f"stage {stage.name!r} starts from {root}, which is damaged: {fault}; run its stage again")
    source = handoff.offered(checkpoint.abstract(root), manifest["model"].get("sums", {}))
    plan = handoff.plan(start, source, layout.leaves)
    if plan.problems:
        raise recipe.Mistake(f"stage {stage.name!r}, handoff from {folder}: {plan.problems[0]}")
    return folder, manifest, root, source, plan


def some(
    stage: recipe.Stage, layout: states.Layout, workdir: epath.Path, pattern: str
) -> tuple[states.Params, dict[str, Any]]:
    """The parameters that `pattern` matches, as the stage's handoff gives them, and the manifest of its source."""
    assert stage.start is not None
    _, manifest, root, source, plan = _planned(stage, stage.start, layout, workdir)
    plan = dataclasses.replace(plan, entries=tuple(e for e in plan.entries if paths.matches(pattern, e.target)))
    params = _read(root, plan, source, layout)
    return params | states.initial(stage, layout, [entry.target for entry in plan.fresh]), manifest


def _read(root: epath.Path, plan: handoff.Plan, source: Mapping[str, Any], layout: states.Layout) -> states.Params:
    """The taken parameters, leaf by leaf: unchanged ones straight to their devices, the others through the host."""
    shapes = layout.shapes.params

    def read(path: str, where: Any = None) -> Any:
        leaf = (
            source[path]
            if where is None
            else jax.ShapeDtypeStruct(source[path].shape, where.dtype, sharding=where.sharding)
        )
        return checkpoint.read(root, {path: leaf})[path]

    same = [entry for entry in plan.taken if entry.by is None and not entry.of]
    plain = {entry.target: read(str(entry.source), shapes[entry.target]) for entry in same}
    changed = dataclasses.replace(plan, entries=tuple(entry for entry in plan.entries if entry not in same))

    def put(path: str, array: np.ndarray) -> jax.Array:
        array = np.asarray(array, shapes[path].dtype)
        return jax.make_array_from_callback(array.shape, shapes[path].sharding, lambda index: array[index])

    return plain | handoff.execute(changed, read, put)


def _carry(
    root: epath.Path, plan: handoff.Plan, opt_state: Any, layout: states.Layout, stage: recipe.Stage
) -> tuple[Any, dict[str, Any]]:
    """The optimizer state with what the source has for parameters that arrived unchanged; the others' stays new."""
    there = checkpoint.abstract(root, "opt_state")
    identical = {entry.target for entry in plan.taken if entry.identity}
    names = checkpoint.names(opt_state)
    wanted: dict[str, Any] = {}
    longest_first = sorted(layout.leaves, key=len, reverse=True)
    for name, leaf in names.items():
        path = next((path for path in longest_first if name.endswith("." + re.sub(r"[^\w-]+", ".", path))), None)
        if name in there and (path is None or path in identical) and there[name].shape == leaf.shape:
            wanted[name] = jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
    if not wanted:
        raise recipe.Mistake(
            f"stage {stage.name!r} carries the optimizer state of {root}, which has none for any of its parameters; "
            "give both stages the same optimizer or carry no 'opt_state'"
        )
    read = checkpoint.read(root, wanted, "opt_state")
    values = [read.get(name, leaf) for name, leaf in names.items()]
    counts = {"opt_state_carried": len(wanted), "opt_state_new": len(names) - len(wanted)}
    return jax.tree.unflatten(jax.tree.structure(opt_state), values), counts
