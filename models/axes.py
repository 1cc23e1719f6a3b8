"""Names of parameter axes, and the flat form in which the rest of Baton sees parameters.

Outside `models` a model's parameters are one flat dict from path to array. Inside, Flax wants a nested dict, and wraps
each parameter in a box with its axis names while it is being made. This file holds the whole translation.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import traverse_util
from flax.core import meta

NAMES = (
    "layers",
    "vocab",
    "embed",
    "heads",
    "kv_heads",
    "head_dim",
    "mlp",
    "positions",
    "buckets",
    "types",
    "classes",
    "norm",
)
"""Every logical axis that a parameter may have; `recipes.mesh` maps each of them to mesh axes."""


@dataclasses.dataclass(frozen=True)
class Leaf:
    """What is known of one parameter before there is an array: shape, dtype, and a logical name for each axis."""

    shape: tuple[int, ...]
    dtype: np.dtype
    axes: tuple[str, ...]

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))


def flatten(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Nested dict -> {'a/b/kernel': leaf}, sorted by path."""
    return dict(sorted(traverse_util.flatten_dict(tree, sep="/").items()))


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Inverse of `flatten`."""
    return traverse_util.unflatten_dict(dict(flat), sep="/")


def leaves(boxed: Mapping[str, Any]) -> dict[str, Leaf]:
    """Flat leaves of a freshly (or abstractly) initialised tree whose parameters are still in their axis-name boxes."""
    found = {}
    for path, box in flatten(boxed).items():
        if not isinstance(box, meta.AxisMetadata):
            raise ValueError(f"models: parameter {path} was made without axis names; use initial.parameter to make it")
        found[path] = Leaf(tuple(box.value.shape), np.dtype(box.value.dtype), tuple(box.names))  # pyright: ignore
    return found


def unbox(boxed: Mapping[str, Any]) -> dict[str, Any]:
    """Flat arrays of a freshly initialised tree, without the boxes."""
    return flatten(meta.unbox(boxed))
