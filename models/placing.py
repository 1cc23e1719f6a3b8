"""Where activations lie on a mesh: the rules that the modules' logical constraints are read by."""

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import jax
from flax import linen as nn


@contextlib.contextmanager
def rules(mesh: jax.sharding.Mesh, names: tuple[tuple[str, Any], ...]) -> Iterator[None]:
    """Inside, `with_logical_constraint` places activations on `mesh` by (logical name, mesh axes) pairs."""
    with jax.set_mesh(mesh), nn.logical_axis_rules(names):
        yield


def parts(*names: str) -> int:
    """Into how many parts the rules and the mesh in force split an axis of activations that these share; 1 without."""
    return math.prod(jax.sharding.get_abstract_mesh().shape[axis] for axis in _axes(*names))


def first(x: jax.Array, *names: str) -> jax.Array:
    """`x` with its first axis split as the rules say of `names`, one within the other, the others as they come."""
    axes = _axes(*names)
    if not axes:
        return x
    return jax.lax.with_sharding_constraint(x, jax.P(axes, *[jax.P.UNCONSTRAINED] * (x.ndim - 1)))


def _axes(*names: str) -> tuple[str, ...]:
    """The mesh axes of logical axes, none of them without a mesh or a rule."""
    if jax.sharding.get_abstract_mesh().empty:
        return ()
    found: list[str] = []
    for name in names:
        (axes,) = tuple(nn.logical_to_mesh_axes((name,)) or (None,))
        found += [axis for axis in (axes if isinstance(axes, tuple) else (axes,)) if axis is not None]
    return tuple(found)
