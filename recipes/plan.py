"""What a recipe will do and what it costs, before anything is spent: on shapes alone, no TensorFlow."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
from jax.sharding import AbstractMesh, AxisType

from models import kernels
from recipes import checkpoint, costing, epochs, handoff, mesh, problems, recipe, sharding
from recipes import state as states

GIB = 1 << 30


@dataclasses.dataclass(frozen=True, kw_only=True)
class Planned:
    """A plan: one dict a stage, the sums, and every problem found, one line each."""

    recipe: str
    stages: tuple[dict[str, Any], ...]
    handoffs: Mapping[str, handoff.Plan]
    totals: dict[str, float]
    problems: tuple[str, ...]

    def json(self) -> dict[str, Any]:
        """What `baton plan --json` prints."""
        return {
            "recipe": self.recipe,
            "stages": list(self.stages),
            "totals": self.totals,
            "problems": list(self.problems),
        }


def make(of: recipe.Recipe, devices: int | None = None, data: bool = False) -> Planned:
    """Plans every stage of a recipe.

    Args:
      of: the recipe.
      devices: how many devices to plan for; None takes the mesh's own product, or this machine's count when it has -1.
      data: also ask the data whether its files are there and fit, as a run does before it begins.
    """
    noted = problems.find(of) + sharding.unused(of)
    stages: list[dict[str, Any]] = []
    plans: dict[str, handoff.Plan] = {}
    clocks: dict[str, int] = {}
    for stage in of.stages:
        where = f"recipe {of.name!r}, stage {stage.name!r}: "
        clocks[stage.name] = _clock(of, stage, clocks)
        try:
            planned, found = _stage(of, stage, how_many(of.mesh, devices), clocks[stage.name])
            if planned:
                stages.append(planned)
                planned |= {"epochs": epochs.counted(of, stage), "warnings": epochs.warnings(of, stage)}
            if stage.start is not None:
                plans[stage.name] = handoff.plan(stage.start, _source(of, stage.start), stage.model.abstract())
                planned["handoff"] = _handoff(stage.start, plans[stage.name])
                found += [f"handoff from {stage.start.source!r}: {line}" for line in plans[stage.name].problems]
            found += _data_problems(stage) if data else []
        except ValueError as error:
            found = [str(error)]
        noted += [line if line.startswith("recipe ") else where + line for line in found]
    totals: dict[str, float] = {
        name: sum(stage[name] for stage in stages) for name in ("tokens", "flops", "training_units")
    }
    return Planned(
        recipe=of.name, stages=tuple(stages), handoffs=plans, totals=totals, problems=tuple(dict.fromkeys(noted))
    )


def _stage(of: recipe.Recipe, stage: recipe.Stage, devices: int, clock: int) -> tuple[dict[str, Any], list[str]]:
    """What is planned of a stage, and its problems; nothing is planned where model, data and loss don't fit."""
    found: list[str] = []
    if stage.model.kind != stage.data.kind:
        found.append(f"a model of kind {stage.model.kind!r} can't learn from data of kind {stage.data.kind!r}")
    found += stage.loss.problems(stage)
    unfit = bool(found)
    shape = mesh.sizes(of.mesh, devices)
    found += sharding.problems(of.rules, stage.model.abstract(), shape)
    found += sharding.sequence_problems(stage, shape["sequence"])
    lengths = {name: dims[1] for name, (dims, _) in stage.data.spec(stage.batch).items() if len(dims) > 1}
    found += kernels.problems(stage.model.stacks, lengths, stage.model.dtype)
    over = AbstractMesh(tuple(shape.values()), tuple(shape), axis_types=(AxisType.Auto,) * len(shape))
    # An abstract mesh serves as a real one does, since nothing is placed on it.
    layout = states.layout(stage, of.rules, over, clock)  # type: ignore[arg-type]
    rows = shape["data"] * shape["fsdp"]
    if stage.batch // stage.accumulate % rows:
        found.append(
            f"batch {stage.batch} in {stage.accumulate} parts doesn't divide over {rows} devices of the data and fsdp "
            f"axes {shape}; change batch, accumulate or the mesh"
        )
    if unfit:
        return {}, found
    cost = costing.of_stage(stage)
    total = sum(leaf.size for leaf in layout.leaves.values())
    planned = {
        "name": stage.name,
        "params": total,
        "trainable_params": sum(layout.leaves[path].size for path in layout.trainable),
        "steps": stage.steps,
        "tokens": _tokens(stage) * stage.steps,
        "flops": cost.flops * stage.steps,
        "training_units": cost.training_units * stage.steps,
        "store": getattr(stage.data, "store", None),
        "handoff": {},
        "mesh": shape,
        "bytes_per_device": {
            "params": _bytes(layout.shapes.params),
            "opt_state": _bytes(layout.shapes.opt_state),
        },
    }
    return planned, found


def _data_problems(stage: recipe.Stage) -> list[str]:
    """What keeps the data, where it lies, from feeding this stage's model."""
    found = stage.data.problems()
    if found:
        return found
    size = stage.data.specials().size
    if size > stage.model.vocabulary:
        found.append(
            f"the data's vocabulary has {size} ids and the model {stage.model.vocabulary}; set VOCABULARY={size}"
        )
    return found


def _tokens(stage: recipe.Stage) -> int:
    """Positions of one batch that the model reads: the inputs, and the decoder's when there are both."""
    spec = stage.data.spec(stage.batch)
    return sum(math.prod(shape) for name, (shape, _) in spec.items() if name.endswith("_segments"))


def how_many(axes: recipe.Mesh, given: int | None) -> int:
    """How many devices are planned for: `given`, or the mesh's product, or this machine's count when it has -1."""
    sizes = dataclasses.astuple(axes)
    return given or (jax.device_count() if -1 in sizes else math.prod(sizes))


def _bytes(tree: Any) -> int:
    return sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _clock(of: recipe.Recipe, stage: recipe.Stage, clocks: Mapping[str, int]) -> int:
    if stage.start is None or "clock" not in stage.start.carry:
        return 0
    if recipe.is_directory(stage.start.source):
        found = checkpoint.manifest(stage.start.source)
        return found["clock"] + found["step"]
    return clocks.get(stage.start.source, 0) + of.stage(stage.start.source).steps


def _source(of: recipe.Recipe, start: recipe.Handoff) -> Mapping[str, Any]:
    """The leaves that a handoff reads: of an earlier stage's model, or of a checkpoint's metadata."""
    if not recipe.is_directory(start.source):
        model = of.stage(start.source).model
        return handoff.offered(model.abstract(), model.sums)
    found = checkpoint.manifest(start.source)
    leaves = checkpoint.abstract(f"{start.source}/checkpoints/{found['step']}")
    return handoff.offered(leaves, found["model"].get("sums", {}))


def _handoff(start: recipe.Handoff, plan: handoff.Plan) -> dict[str, Any]:
    return {"source": start.source, "carry": list(start.carry), **plan.json()}


def lines(planned: Planned, full: bool = False) -> list[str]:
    """The plan as text; `full` prints every parameter of every handoff."""
    text = [f"recipe {planned.recipe}"]
    for stage in planned.stages:
        per_device = sum(stage["bytes_per_device"].values()) / GIB
        text += [
            f"  stage {stage['name']}: {stage['trainable_params']:,} of {stage['params']:,} parameters train, "
            f"{stage['steps']:,} steps, {stage['tokens']:.4g} tokens, {stage['flops']:.4g} FLOPs, "
            f"{stage['training_units']:.4g} training units",
            f"    mesh {stage['mesh']}, parameters and optimizer {per_device:.3f} GiB a device",
        ]
        if stage["handoff"]:
            sums = stage["handoff"]["parameters"]
            carried = f", carries {', '.join(stage['handoff']['carry'])}" if stage["handoff"]["carry"] else ""
            counts = ", ".join(f"{count:,} {name}" for name, count in sums.items())
            text.append(f"    handoff from {stage['handoff']['source']}: {counts}{carried}")
            text += [f"      {line}" for line in stage["handoff"]["reports"]]
            if full:
                text += [f"      {line}" for line in planned.handoffs[stage["name"]].lines()]
        if stage["epochs"]:
            read = ", ".join(f"{part} {count:.2f}" for part, count in stage["epochs"].items())
            text.append(f"    epochs read by its end: {read}")
        text += [f"    warning: {line}" for line in stage["warnings"]]
    totals = planned.totals
    text.append(
        f"  in all: {totals['tokens']:.4g} tokens, {totals['flops']:.4g} FLOPs, "
        f"{totals['training_units']:.4g} training units"
    )
    text += [f"  problem: {problem}" for problem in planned.problems] or ["  no problems found"]
    return text
