"""The key and value cache of one-token steps.

A cache is a dict of arrays, ready for jit, scan and while loops:
  "self"   a pair (keys, values) [layers, B, G, C, T] of the tokens read so far,
  "cross"  a pair (keys, values) [layers, B, G, C, S] of the encoder's states, computed once,
  "seen"   [1, B, S] booleans, which encoder places are not padding,
the last two only with cross-attention. The batch is axis 1 in every leaf. Only "self" changes between steps: a beam
search that shuffles hypotheses within a row need gather that alone.
"""

from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from models import stack as stacks

Cache = dict[str, Any]


def start(config: stacks.Stack, dtype: jnp.dtype, batch_size: int, max_length: int) -> Cache:
    """An empty cache of self-attention for `batch_size` rows of up to `max_length` tokens."""
    shape = (config.layers, batch_size, config.groups, config.size, max_length)
    return {"self": (jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))}


def write(cache: Cache, pairs: tuple[Array, Array], places: Array) -> Cache:
    """The cache with the pairs [layers, B, G, C, N] of N further tokens from `places` [B] on."""

    def put(old: Array, new: Array) -> Array:
        # One row at a time, in place when the cache is donated or carried by a loop.
        def row(index, old):
            part = lax.dynamic_slice_in_dim(new, index, 1, axis=1).astype(old.dtype)
            zero = jnp.zeros((), places.dtype)
            return lax.dynamic_update_slice(old, part, (zero, index.astype(places.dtype), zero, zero, places[index]))

        return lax.fori_loop(0, new.shape[1], row, old)

    return {**cache, "self": tuple(put(old, new) for old, new in zip(cache["self"], pairs))}
