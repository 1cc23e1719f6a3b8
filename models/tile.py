"""Inside a block of the bucketed kernel: `block` queries by `block` keys in vector memory.

Everything here is traced into a Pallas kernel for a TPU: arrays are two-dimensional, rows [1, block] lie along lanes,
columns [block, 1] along sublanes. i is the number of the block of queries, j of the block of keys.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

HIDDEN = -1e30
"""Score of a pair that must not meet."""

LANES = 128


@dataclasses.dataclass(frozen=True)
class Buckets:
    """`count` buckets of distances: `first` for the lowest, another from each distance in `changes` on, in order."""

    count: int
    first: int
    changes: tuple[tuple[int, int], ...]

    def of(self, distance: np.ndarray) -> np.ndarray:
        """The bucket of each distance, on the host."""
        starts = np.array([start for start, _ in self.changes])
        return np.array([self.first, *(bucket for _, bucket in self.changes)])[
            np.searchsorted(starts, distance, side="right")
        ]

    def near(self, block: int, n: int, causal: bool) -> tuple[int, int]:
        """The lowest and highest j - i whose blocks hold pairs of more than one bucket, among n x n blocks."""
        steps = [step for step in range(1 - n, 1 if causal else n) if self.mixed(step * block, block)]
        return steps[0], steps[-1]

    def mixed(self, apart, block: int):
        """Whether blocks whose first places are `apart` hold pairs of more than one bucket."""
        return (apart + block - 1 >= self.changes[0][0]) & (apart - block + 1 < self.changes[-1][0])

    def lookup(self, table, distance: Array) -> Array:
        """The bias of each distance from a table [1, count] in scalar memory."""
        bias = jnp.full(distance.shape, table[0, self.first], jnp.float32)
        for start, bucket in self.changes:
            bias = jnp.where(distance >= start, table[0, bucket], bias)
        return bias


def visit(step, buckets: Buckets, table, low, high, i, j, block: int, *, causal: bool):
    """Call `step(bias, near)` where a query and a key of these blocks may meet.

    The bias is [block, block], or one number where all pairs are in one bucket and near is False. `low` and `high`
    [1, N] hold the smallest and the largest segment of each block.
    """
    apart = (j - i) * block
    alive = (low[0, i] <= high[0, j]) & (low[0, j] <= high[0, i])
    if causal:
        alive = alive & (j <= i)
    near = buckets.mixed(apart, block)

    @pl.when(alive & near)
    def _():
        slot = lax.broadcasted_iota(jnp.int32, (1, 2 * block), 1)
        row = buckets.lookup(table, apart + jnp.where(slot < block, slot, slot - 2 * block))
        step(toeplitz(row), True)

    @pl.when(alive & ~near)
    def _():
        step(jnp.where(apart > 0, table[0, buckets.changes[-1][1]], table[0, buckets.first]), False)


def toeplitz(row: Array) -> Array:
    """[1, 2 * block] -> [block, block]: row r is `row` moved r places to the right, what leaves coming in again.

    Doubled log(block) times, and most of it by whole vectors of lanes, which costs nothing.
    """
    block, rows = row.shape[1] // 2, row
    while rows.shape[0] < block:
        rows = jnp.concatenate([rows, pltpu.roll(rows, rows.shape[0], 1)], axis=0)
    return rows[:, :block]


def diagonals(x: Array) -> Array:
    """[block, block] -> [1, 2 * block]: the transpose of `toeplitz`, sums over pairs of one distance."""
    rows = jnp.concatenate([x, jnp.zeros_like(x)], axis=1)
    while rows.shape[0] > 1:
        half = rows.shape[0] // 2
        rows = rows[:half] + pltpu.roll(rows[half:], rows.shape[1] - half, 1)
    return rows


def meet(queries: Array, keys: Array, *, ordered: tuple[Array, Array] | None) -> Array:
    """Whether queries and keys of segments [1, block] meet, [block, block]; `ordered` (i, j) hides later keys."""
    block = queries.shape[1]
    seen = column(jnp.where(queries == 0, -1, queries)) == keys
    if ordered is not None:
        i, j = ordered
        place = [lax.broadcasted_iota(jnp.int32, (block, block), axis) for axis in (0, 1)]
        seen = seen & (place[0] + i * block >= place[1] + j * block)
    return seen


def dot(left: Array, right: Array, over_left: int, over_right: int) -> Array:
    """float32 product over one axis of each."""
    return lax.dot_general(left, right, (((over_left,), (over_right,)), ((), ())), preferred_element_type=jnp.float32)


def column(x: Array) -> Array:
    """[1, block] -> [block, 1]."""
    return jnp.broadcast_to(x, (LANES, x.shape[1])).T[:, :1]


def row(x: Array) -> Array:
    """[block, 1] -> [1, block]."""
    return jnp.broadcast_to(x, (x.shape[0], LANES)).T[:1]
