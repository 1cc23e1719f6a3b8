"""Where activations lie on a mesh: the rules that the modules' logical constraints are read by."""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
from flax import linen as nn


@contextlib.contextmanager
def rules(mesh: jax.sharding.Mesh, names: tuple[tuple[str, Any], ...]) -> Iterator[None]:
    """Inside, `with_logical_constraint` places activations on `mesh` by (logical name, mesh axes) pairs."""
    with jax.set_mesh(mesh), nn.logical_axis_rules(names):
        yield
