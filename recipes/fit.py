"""The fastest setting of a stage that fits a slice: rematerialisation, accumulation and the split of the mesh.

Every setting is estimated by hand first: what it must hold at least, and how long its products and exchanges take.
Those that can't fit are left out; of the others some are compiled, the stage's own first, then the fastest estimates,
and the fastest by the compiled program is proposed.
"""

import contextlib
import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

from jax.sharding import AbstractMesh, AxisType

from models import stack
from recipes import chips, compiled, costing, recipe
from recipes import state as states
from recipes import topology as topologies

REMAT = {"none": 3.0, "dots": 3.1, "full": 4.0}
"""Forward passes' worth of work that a step takes: three, and what is made again (dots: about attention's)."""
COMPILES = 6
"""So many settings are compiled at most."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """One way to run a stage: rematerialisation, accumulation, mesh sizes with nothing left open."""

    remat: str
    accumulate: int
    mesh: recipe.Mesh

    def apply(self, of: recipe.Recipe, stage: recipe.Stage) -> tuple[recipe.Recipe, recipe.Stage]:
        """The recipe and the stage with it; over several slices the mesh is one slice's."""
        model = stack.altered(stage.model, remat=self.remat)
        changed = dataclasses.replace(stage, model=model, accumulate=self.accumulate)
        return dataclasses.replace(of, mesh=self.mesh), changed

    def bindings(self, stage: recipe.Stage) -> list[str]:
        """What to give `--set`."""
        return [
            *(f"Mesh.{axis}={size}" for axis, size in dataclasses.asdict(self.mesh).items()),
            f"Stack.remat='{self.remat}'",
            f"{stage.name}/Stage.accumulate={self.accumulate}",
        ]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Candidate:
    """A setting, the bytes that a device must hold at least, and seconds of a step.

    `seconds` is with exchanges after the products, as a ranking; `least` is with the two at the same time.
    """

    setting: Setting
    need: float
    seconds: float
    least: float


def candidates(of: recipe.Recipe, stage: recipe.Stage, topology: topologies.Topology) -> list[Candidate]:
    """Every setting that the stage and the slice allow and that may fit, the fastest estimate first."""
    places, most = _places(of, stage, topology), topology.chip.hbm_gib * chips.GIB
    found = [
        _estimate(of, stage, topology, setting, places[setting.mesh])
        for setting in _all(of, stage, topology)
        if setting.mesh in places and places[setting.mesh].least <= most
    ]
    return sorted((one for one in found if one.need <= most), key=lambda one: (one.seconds, one.need))


def _all(of: recipe.Recipe, stage: recipe.Stage, topology: topologies.Topology) -> Iterator[Setting]:
    sequence = topology.sizes(of.mesh).sequence if of.mesh.sequence == -1 else of.mesh.sequence
    devices = topology.devices // topology.slices // sequence
    sizes = [size for size in range(1, devices + 1) if devices % size == 0]
    for fsdp, tensor in itertools.product(sizes, (1, 2, 4, 8)):
        if devices % (fsdp * tensor):
            continue
        axes = recipe.Mesh(data=devices // (fsdp * tensor), fsdp=fsdp, sequence=sequence, tensor=tensor)
        for accumulate in (1, 2, 4, 8, 16):
            rows = axes.data * axes.fsdp * topology.slices
            if stage.batch % accumulate == 0 and stage.batch // accumulate % rows == 0:
                yield from (Setting(remat=remat, accumulate=accumulate, mesh=axes) for remat in REMAT)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Held:
    """What a device has of a stage on a mesh: bytes, and elements of all parameters; the mesh's sizes."""

    state: int
    grads: int
    params: int
    shape: dict[str, int]

    @property
    def least(self) -> int:
        """Bytes that no setting does without."""
        return self.state + self.grads


def _places(of: recipe.Recipe, stage: recipe.Stage, topology: topologies.Topology) -> dict[recipe.Mesh, _Held]:
    """What a device has on every mesh that divides the stage's parameters."""
    found = {}
    for axes in dict.fromkeys(setting.mesh for setting in _all(of, stage, topology)):
        with contextlib.suppress(recipe.Mistake):  # a dimension that the split doesn't divide
            found[axes] = _held(of, stage, topology, axes)
    return found


def _held(of: recipe.Recipe, stage: recipe.Stage, topology: topologies.Topology, axes: recipe.Mesh) -> _Held:
    shape = dataclasses.asdict(topology.sizes(axes))
    over = AbstractMesh(tuple(shape.values()), tuple(shape), axis_types=(AxisType.Auto,) * len(shape))
    layout = states.layout(stage, of.rules, over)  # type: ignore[arg-type]
    return _Held(
        state=compiled.local((layout.shapes.params, layout.shapes.opt_state)),
        grads=compiled.local({path: layout.shapes.params[path] for path in layout.trainable}),
        params=sum(leaf.size for leaf in layout.leaves.values()),
        shape=shape,
    )


def _estimate(
    of: recipe.Recipe, stage: recipe.Stage, topology: topologies.Topology, setting: Setting, held: _Held
) -> Candidate:
    """What a setting takes, by hand."""
    _, stage = setting.apply(of, stage)
    shape, chip = held.shape, topology.chip
    rows = stage.batch // stage.accumulate / (shape["data"] * shape["fsdp"])
    grads = held.grads * (2 if stage.accumulate > 1 else 1)
    need = held.state + grads + rows / shape["sequence"] * _kept(stage, shape["tensor"])
    compute = costing.of_stage(stage).flops / 3 * REMAT[setting.remat] / topology.devices / chip.flops
    # In every part kernels are gathered in the compute dtype, once forward and once backward, and their gradients
    # summed in float32 over all who have rows of their own: as TPU programs do it, by an all-reduce.
    copies = shape["data"] * shape["fsdp"]
    gathered = 2 * 2 * held.params / shape["tensor"] * (shape["fsdp"] - 1) / shape["fsdp"]
    summed = 2 * 4 * held.params / shape["tensor"] * (copies - 1) / copies
    spread = 8 * rows * _streams(stage) if shape["tensor"] > 1 else 0.0
    links = stage.accumulate * (gathered + summed + spread) / chip.ici
    return Candidate(setting=setting, need=need, seconds=compute + links, least=max(compute, links))


def _lengths(stage: recipe.Stage) -> dict[str, int]:
    spec = stage.data.spec(stage.batch)
    found = {
        name.split("_")[0]: math.prod(shape[1:]) for name, (shape, _) in spec.items() if name.endswith("_segments")
    }
    # A stack that goes by another name reads the encoder's side.
    return {side: found[side if side in found else "encoder"] for side in stage.model.stacks}


def _streams(stage: recipe.Stage) -> float:
    """Bytes of one row's residual stream in all layers."""
    lengths, width = _lengths(stage), 2 if stage.model.dtype == "bfloat16" else 4
    return sum(of.layers * lengths[side] * of.width * width for side, of in stage.model.stacks.items())


def _kept(stage: recipe.Stage, tensor: int) -> float:
    """Bytes of one row that the backward pass can't do without: layer inputs, and what isn't made again."""
    lengths, width, total = _lengths(stage), 2 if stage.model.dtype == "bfloat16" else 4, _streams(stage)
    for name, length in lengths.items():
        side = stage.model.stacks[name]
        if side.remat == "full":
            continue
        products = 4 * side.heads * side.size + (2 if side.gated else 1) * side.mlp
        total += side.layers * length * products * width / tensor
        if side.remat == "none" and side.attention == "plain":
            total += side.layers * side.heads * length * length * width / tensor
    return total


def search(
    of: recipe.Recipe,
    stage: recipe.Stage,
    topology: topologies.Topology,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[Setting | None, dict[str, Any] | None]:
    """The fastest setting of those compiled that fit, and its figures; None where none of those tried does.

    The compiler is asked COMPILES times at most: not about what is estimated to hold more than a setting that didn't
    fit, nor when no estimate left is below the fastest found.
    """
    best: tuple[Setting, dict[str, Any]] | None = None
    too_much, compiles = math.inf, 0
    ranked = candidates(of, stage, topology)
    own = _own(of, stage, topology)
    for one in sorted(ranked, key=lambda one: one.setting != own):
        slower = best is not None and one.least >= best[1]["step_seconds"]
        if one.need >= too_much or slower or compiles == COMPILES:
            continue
        say(f"plan: compiling stage {stage.name} for {topology.name} with {' '.join(one.setting.bindings(stage))}")
        changed, tried = one.setting.apply(of, stage)
        found = compiled.measure(changed, tried, topology)
        compiles += 1
        if not found["fits"]:
            too_much = min(too_much, one.need)
        elif best is None or found["step_seconds"] < best[1]["step_seconds"]:
            best = one.setting, found | {"name": stage.name}
    return best or (None, None)


def _own(of: recipe.Recipe, stage: recipe.Stage, topology: topologies.Topology) -> Setting | None:
    """The stage as it is, if its stacks are alike and its mesh can be laid over the slice."""
    remats = {side.remat for side in stage.model.stacks.values()}
    with contextlib.suppress(recipe.Mistake):
        sizes = topology.sizes(of.mesh)
        mesh = dataclasses.replace(sizes, data=sizes.data // topology.slices)
        return Setting(remat=remats.pop(), accumulate=stage.accumulate, mesh=mesh) if len(remats) == 1 else None
    return None


def proposal(stage: recipe.Stage, topology: topologies.Topology, setting: Setting) -> str:
    """What to set."""
    flags = " ".join(f'--set "{binding}"' for binding in setting.bindings(stage))
    return f"stage {stage.name} on {topology.name}: proposed {flags}"


def refusal(of: recipe.Recipe, stage: recipe.Stage, topology: topologies.Topology) -> str:
    """Why no setting was found."""
    head, limit = f"stage {stage.name} on {topology.name}: ", topology.chip.hbm_gib
    least = min((held.least for held in _places(of, stage, topology).values()), default=0) / chips.GIB
    if least > limit:
        return (
            f"{head}nothing fits: parameters, optimizer and gradients alone take {least:.2f} GiB a device of "
            f"{limit:.2f}, {least - limit:.2f} too many, however they are split; take a larger slice"
        )
    return f"{head}nothing that was tried fits; take a larger slice or a smaller batch"
