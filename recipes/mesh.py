"""The device mesh, and where each parameter and each batch lies on it.

Axes: `data` copies the parameters and splits the rows; `fsdp` splits parameters and rows; `sequence` splits the
positions of a row between its attentions; `tensor` splits heads, hidden units and vocabulary. Compilation is `jax.jit`
with explicit shardings, which does what pjit did.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from recipes import paths, recipe

AXES = ("data", "fsdp", "sequence", "tensor")
ROWS = PartitionSpec(("data", "fsdp"))


def sizes(mesh: recipe.Mesh, devices: int) -> dict[str, int]:
    """Devices along each axis; raises Mistake when the mesh can't be laid over `devices`."""
    given = dataclasses.asdict(mesh)
    fixed = math.prod(size for size in given.values() if size != -1)
    if devices % fixed or (-1 not in given.values() and fixed != devices):
        raise recipe.Mistake(
            f"mesh {given} doesn't fit {devices} devices: the sizes must multiply to {devices}; set one axis to -1"
        )
    return {axis: devices // fixed if size == -1 else size for axis, size in given.items()}


def build(mesh: recipe.Mesh, devices: Sequence[Any] | None = None) -> jax.sharding.Mesh:
    """The mesh over `devices` (default: all there are)."""
    devices = jax.devices() if devices is None else devices
    shape = sizes(mesh, len(devices))
    grid = np.asarray(devices).reshape([shape[axis] for axis in AXES])
    return jax.sharding.Mesh(grid, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def spec(path: str, leaf: Any, rules: recipe.Rules, shape: Mapping[str, int]) -> PartitionSpec:
    """How the parameter at `path` is split; `leaf` has its `shape` and logical `axes`.

    Raises:
      recipe.Mistake: a rule names no mesh axis, two of its dimensions fall on one, or one doesn't divide its dimension.
    """
    table = dataclasses.asdict(rules)
    entries: list[str | None] = []
    for name, size in zip(leaf.axes, leaf.shape, strict=True):
        axis = table[name] if name is not None else None
        if axis is not None and axis not in shape:
            raise recipe.Mistake(
                f"Rules.{name} = {axis!r} is no mesh axis{paths.nearest(axis, shape)}; choose one of {', '.join(shape)}"
            )
        if axis is not None and axis in entries:
            other = leaf.axes[entries.index(axis)]
            raise recipe.Mistake(
                f"{path}: logical axes {other!r} and {name!r} both go to mesh axis {axis!r}; "
                "set one of them to None in Rules"
            )
        if axis is not None and size % shape[axis]:
            raise recipe.Mistake(
                f"{path}: its {name!r} dimension of {size} doesn't divide over mesh axis {axis!r} of "
                f"{shape[axis]} devices; change the mesh or set Rules.{name} = None"
            )
        entries.append(axis if axis is not None and shape[axis] > 1 else None)
    while entries and entries[-1] is None:
        entries.pop()
    return PartitionSpec(*entries)


def shardings(leaves: Mapping[str, Any], rules: recipe.Rules, mesh: jax.sharding.Mesh) -> dict[str, NamedSharding]:
    """The sharding of every parameter of the flat dict `leaves`."""
    shape = dict(mesh.shape)
    return {path: NamedSharding(mesh, spec(path, leaf, rules, shape)) for path, leaf in leaves.items()}


def whole(mesh: jax.sharding.Mesh) -> NamedSharding:
    """Every device has all of it."""
    return NamedSharding(mesh, PartitionSpec())


def rows(mesh: jax.sharding.Mesh) -> NamedSharding:
    """The leading dimension split over the data and fsdp axes."""
    return NamedSharding(mesh, ROWS)


def activation_rules(rules: recipe.Rules) -> tuple[tuple[str, Any], ...]:
    """Logical axis rules for activations: the rows, their positions, and what the tensor axis splits."""
    table = dataclasses.asdict(rules)
    split = {name: axis for name, axis in table.items() if axis == "tensor"}
    return (("batch", ("data", "fsdp")), ("length", "sequence"), ("embed", None), *split.items())


def put(batch: Mapping[str, np.ndarray], mesh: jax.sharding.Mesh) -> dict[str, jax.Array]:
    """This process's rows as parts of global arrays."""
    sharding = rows(mesh)
    return {name: jax.make_array_from_process_local_data(sharding, value) for name, value in batch.items()}
