"""Tokens drawn from a softmax over a large vocabulary, with one random number a token.

Gumbel noise would need a random number for each entry of the vocabulary, which costs more than the logits themselves.
Here the vocabulary is cut into about sqrt(V) blocks: the number falls into one of the blocks, then into one of its
entries, so that sums run over sqrt(V) numbers twice and never over V.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax


class Draw(NamedTuple):
    """What a draw needs of each token [...], float32: a number from [0, 1), and the temperature that divides logits."""

    uniform: Array
    temperature: Array


def pick(logits: Array, draw: Draw) -> Array:
    """The entry of softmax(logits / temperature) at quantile `uniform`: float32 logits [..., V] -> int32 [...]."""
    size = 1 << ((logits.shape[-1] - 1).bit_length() + 1) // 2
    count = -(-logits.shape[-1] // size)
    top = jnp.max(logits, axis=-1, keepdims=True)
    raised = jnp.exp((logits - top) / draw.temperature[..., None])
    raised = jnp.pad(raised, [(0, 0)] * (raised.ndim - 1) + [(0, count * size - raised.shape[-1])])
    blocks = raised.reshape(*raised.shape[:-1], count, size)
    edges = jnp.cumsum(jnp.sum(blocks, axis=-1), axis=-1)
    at = draw.uniform[..., None] * edges[..., -1:]
    block = jnp.argmax(edges > at, axis=-1)
    # Comparisons instead of lookups: they stay local where the vocabulary is spread over devices.
    number = lax.broadcasted_iota(block.dtype, edges.shape, edges.ndim - 1)
    before = jnp.max(jnp.where(number < block[..., None], edges, 0.0), axis=-1, keepdims=True)
    inside = jnp.sum(jnp.where((number == block[..., None])[..., None], blocks, 0.0), axis=-2)
    place = jnp.sum(jnp.cumsum(inside, axis=-1) <= at - before, axis=-1)
    # Rounding may leave the number a hair beyond the block's last entry that has a probability.
    entries = lax.broadcasted_iota(place.dtype, inside.shape, inside.ndim - 1)
    last = jnp.max(jnp.where(inside > 0, entries, 0), axis=-1)
    return (block * size + jnp.minimum(place, last)).astype(jnp.int32)
