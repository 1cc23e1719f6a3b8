"""Positions inside attention: T5's relative bias and rotary embedding.

Shapes: B batch, H heads, Q queries, K keys, C head size.
"""

import math
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from models import initial, stack, stretch


def buckets(distance: Any, *, bidirectional: bool, count: int, furthest: int, of: Any = jnp) -> Any:
    """T5's bucket of each key-minus-query distance (arXiv:1910.10683): exact when near, logarithmic up to `furthest`.

    With `bidirectional` the upper half of the buckets is for keys after the query; without, those are in bucket 0.
    `of` is the module that computes it, numpy for what a kernel is compiled with.
    """
    first = of.zeros_like(distance)
    if bidirectional:
        count //= 2
        first = of.where(distance > 0, count, 0).astype(distance.dtype)
        distance = of.abs(distance)
    else:
        distance = of.maximum(-distance, 0)
    exact = count // 2
    ratio = of.maximum(distance, 1).astype(of.float32) / exact
    coarse = exact + (of.log(ratio) / math.log(furthest / exact) * (count - exact)).astype(distance.dtype)
    return first + of.where(distance < exact, distance, of.minimum(coarse, count - 1))


class RelativeBias(nn.Module):
    """One bias on the scores for each head and bucket of distances.

    Distances are those between places in the row. Inside a segment they equal the distances between positions, and
    segments do not see each other, so packing changes nothing and the bias has no batch axis.
    """

    config: stack.Stack
    bidirectional: bool

    def setup(self):
        """Make the table."""
        c = self.config
        self.embedding = initial.parameter(
            self, "embedding", (c.buckets, c.heads), ("buckets", "heads"), c.init.kernel(c.width)
        )

    def at(self, distance: Array) -> Array:
        """[...] key-minus-query distances -> [..., H] float32."""
        c = self.config
        bucket = buckets(distance, bidirectional=self.bidirectional, count=c.buckets, furthest=c.max_distance)
        return jnp.take(self.embedding, bucket, axis=0)

    def step(self, distance: Array) -> Array:
        """Bias [B, H, 1, K] of one query a row on keys at key-minus-query distances [B, K]."""
        return self.at(distance).transpose(0, 2, 1)[:, :, None, :]

    def __call__(self, queries: int, keys: int) -> Array:
        """Bias [H, Q, K] float32 of a row's queries 0..Q-1 on its keys 0..K-1.

        A distance occurs on a whole diagonal, so only the Q + K distances are looked up, and one row of them, repeated
        and read with a stride one shorter, gives all diagonals. Its gradient is then sums along diagonals, not a
        scatter of Q x K numbers into a few buckets.
        """
        period = queries + keys
        slot = jnp.arange(period)
        values = self.at(jnp.where(slot < keys, slot, slot - period)).T
        rows = jnp.broadcast_to(values[:, None], (values.shape[0], queries, period)).reshape(values.shape[0], -1)
        return rows[:, : queries * (period - 1)].reshape(-1, queries, period - 1)[:, :, :keys]


def rotation(positions: Array, *, size: int, base: float, scaling: stretch.Llama3 | None = None) -> tuple[Array, Array]:
    """Cosines and sines [B, L, 1, C / 2] float32 of the angles for positions [B, L] and head size C."""
    frequency = base ** (-jnp.arange(0, size, 2, dtype=jnp.float32) / size)
    if scaling is not None:
        frequency = scaling(frequency)
    angle = positions[:, :, None, None].astype(jnp.float32) * frequency[None, None, None, :]
    return jnp.cos(angle), jnp.sin(angle)


def rotate(x: Array, angles: tuple[Array, Array]) -> Array:
    """Turn the pairs (i, i + C/2) of x [B, L, heads, C] by the angles of `rotation` (RoFormer, arXiv:2104.09864)."""
    cos, sin = angles
    left, right = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([left * cos - right * sin, right * cos + left * sin], axis=-1).astype(x.dtype)
