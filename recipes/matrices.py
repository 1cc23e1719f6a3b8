"""A parameter seen as a matrix, or as a stack of matrices, one a layer.

Layers are stored stacked on a leading axis and attention kernels keep heads and head size apart. For an optimizer that
works on matrices the stack is not a dimension of the matrix, and heads and head size are one.
"""

import dataclasses
import math
from typing import Any, Protocol

from jax.sharding import PartitionSpec

_JOINED = (("heads", "head_dim"), ("kv_heads", "head_dim"))


class Shape(Protocol):
    """What is known of a parameter before it exists; `axes`, its logical axis names, may be missing."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of its dimensions."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class View:
    """How the dimensions of a parameter group.

    Attributes:
        shape: the parameter's own shape.
        stacked: whether dimension 0 counts layers.
        groups: the other dimensions, those that belong together grouped; a matrix has two groups.
    """

    shape: tuple[int, ...]
    stacked: bool
    groups: tuple[tuple[int, ...], ...]

    @property
    def matrix(self) -> bool:
        """Whether each layer is a matrix."""
        return len(self.groups) == 2

    @property
    def sides(self) -> tuple[int, ...]:
        """Sizes of the groups."""
        return tuple(math.prod(self.shape[dim] for dim in group) for group in self.groups)

    @property
    def joined(self) -> tuple[int, ...]:
        """The shape with each group as one dimension, layers first where there are any."""
        return (*self.shape[: int(self.stacked)], *self.sides)

    def side_spec(self, side: int, spec: PartitionSpec) -> PartitionSpec:
        """Returns how an array [layers?, side] lies when the parameter lies as `spec`: a mean over the other side.

        Of a group only the first dimension's mesh axis carries over, since only it leaves contiguous blocks.
        """
        whole: tuple[Any, ...] = (*spec, *(None for _ in range(len(self.shape) - len(spec))))
        return PartitionSpec(*whole[: int(self.stacked)], whole[self.groups[side][0]])


def view(leaf: Shape) -> View:
    """Returns how `leaf` groups by its logical axes; without axes each dimension is by itself and none is a stack."""
    axes = tuple(getattr(leaf, "axes", None) or (None for _ in leaf.shape))
    stacked = bool(axes) and axes[0] == "layers"
    groups: list[tuple[int, ...]] = []
    for dim in range(int(stacked), len(axes)):
        if groups and (axes[dim - 1], axes[dim]) in _JOINED:
            groups[-1] = (*groups[-1], dim)
        else:
            groups.append((dim,))
    return View(shape=tuple(leaf.shape), stacked=stacked, groups=tuple(groups))
