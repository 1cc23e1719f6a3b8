"""Attention: who sees whom, the scores and their softmax, and the module around them.

Shapes: B batch, L length, D width, H query heads, G key and value heads, Q queries, K keys, C head size, T cache size.
Queries are [B, H, Q, C], keys and values [B, G, C, K]: then all six products, the gradient's too, are batches of plain
matrix products of which none needs a large operand turned around.
"""

import functools

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax

from models import layers, positions, stack

HIDDEN = -1e30
"""Score of a pair that must not meet: finite, so that a row of nothing else still has an ordinary softmax."""


def segment_mask(queries: Array, keys: Array) -> Array:
    """[B, 1, Q, K] booleans: whether a query and a key, of segments [B, Q] and [B, K], meet; segment 0 never does."""
    same = queries[:, None, :, None] == keys[:, None, None, :]
    return same & (keys != 0)[:, None, None, :]


def causal_mask(segments: Array, prefix: Array | None = None) -> Array:
    """[B, 1, L, L] booleans: a place sees itself and what precedes it in its segment.

    Where `prefix` [B, L] is not 0 a place is seen by its whole segment (prefix LM, arXiv:1910.10683).
    """
    place = jnp.arange(segments.shape[1])
    order = (place[:, None] >= place[None, :])[None, None]
    if prefix is not None:
        order = order | (prefix != 0)[:, None, None, :]
    return segment_mask(segments, segments) & order


def hide(mask: Array, dtype: jnp.dtype) -> Array:
    """What is added to scores so that pairs which `mask` does not allow have no weight: 0 or `HIDDEN`."""
    return jnp.where(mask, jnp.zeros((), dtype), jnp.asarray(HIDDEN, dtype))


def attend(
    query: Array, key: Array, value: Array, *, mask: Array, bias: Array | None = None, keep=None, rate: float = 0.0
) -> Array:
    """softmax(query key + bias + mask) value; zeros for a query that `mask` hides everything from.

    query [B, H, Q, C], key and value [B, G, C, K], mask [B, 1, Q, K] from `hide`, bias [H, Q, K] -> [B, H, Q, C]; the
    softmax is float32. `keep` [B, H, Q, K] booleans drop probabilities, scaling the others as their `rate` asks.
    """
    return _attend(1 / (1 - rate), query, key, value, mask, bias, keep)


# The derivative is written out because the automatic one takes two more passes over [B, H, Q, K]: dividing by the
# softmax's sum is left until after the product with the values, and sum(probability * its gradient) over the keys
# equals sum(output * its gradient) over the head (FlashAttention, arXiv:2205.14135). The bias's gradient is a product
# with ones because XLA's CPU backend sums a leading axis fifty times slower.


def _forward(factor, query, key, value, mask, bias, keep):
    # Added to each other first, mask and bias are the same in every layer, and XLA makes them once.
    shift = mask.astype(jnp.float32) if bias is None else mask.astype(jnp.float32) + bias[None]
    scores = _product(query, key, 3, 2) + shift
    # The floor keeps a row of nothing but hidden pairs at zero weight.
    top = jnp.maximum(jnp.max(scores, axis=-1, keepdims=True), HIDDEN / 2)
    weights = jnp.exp(scores - top)
    scale = 1 / jnp.maximum(jnp.sum(weights, axis=-1, keepdims=True), 1e-30)
    weights = weights.astype(value.dtype)
    out = _product(_kept(weights, keep), value, 3, 3) * (scale * factor)
    out = out.astype(query.dtype)
    return out, (query, key, value, bias, keep, weights, scale, out)


def _backward(factor, saved, dout):
    query, key, value, bias, keep, weights, scale, out = saved
    dtype = query.dtype
    dout = dout.astype(jnp.float32) * scale
    inner = jnp.sum(dout * out.astype(jnp.float32), axis=-1, keepdims=True)
    dout = (dout * factor).astype(dtype)
    dweights = _kept(_product(dout, value, 3, 2), keep)
    dscores = (weights.astype(jnp.float32) * (dweights - inner)).astype(dtype)
    dquery = _product(dscores, key, 3, 3).astype(dtype)
    dkey, dvalue = _to_groups(query, dscores, key), _to_groups(dout, _kept(weights, keep), value)
    dbias = None
    if bias is not None:
        dbias = lax.platform_dependent(dscores, cpu=_over_rows, default=_summed_rows)
    return dquery, dkey, dvalue, None, dbias, None


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(factor, query, key, value, mask, bias, keep):
    return _forward(factor, query, key, value, mask, bias, keep)[0]


_attend.defvjp(_forward, _backward)


def _over_rows(x: Array) -> Array:
    """Sum over the rows: a product is fastest on a CPU, which has none for a bfloat16 vector (jaxlib 0.10)."""
    return lax.dot_general(jnp.ones(x.shape[:1]), x.astype(jnp.float32), (((0,), (0,)), ((), ())))


def _summed_rows(x: Array) -> Array:
    """The same elsewhere, without a float32 copy of [B, H, Q, K]."""
    return jnp.sum(x, axis=0, dtype=jnp.float32)


def _kept(x: Array, keep: Array | None) -> Array:
    return x if keep is None else jnp.where(keep, x, jnp.zeros((), x.dtype))


def _product(left: Array, right: Array, over_left: int, over_right: int) -> Array:
    """float32 products [B, H, Q, ?] of [B, H, Q, ?] with [B, G, ?, ?] over one axis of each.

    The query heads of a group are further rows of one product, so keys and values are never repeated.
    """
    b, h, q, last = left.shape
    g = right.shape[1]
    left = left.reshape(b, g, h // g * q, last)
    dims = (((over_left,), (over_right,)), ((0, 1), (0, 1)))
    return lax.dot_general(left, right, dims, preferred_element_type=jnp.float32).reshape(b, h, q, -1)


def _to_groups(left: Array, right: Array, like: Array) -> Array:
    """Products [B, G, C, K] of [B, H, Q, C] with [B, H, Q, K], summed over queries and over a group's query heads."""
    b, h, q, _ = left.shape
    g = like.shape[1]
    left, right = (x.reshape(b, g, h // g * q, -1) for x in (left, right))
    dims = (((2,), (2,)), ((0, 1), (0, 1)))
    return lax.dot_general(left, right, dims, preferred_element_type=jnp.float32).astype(like.dtype)


class Attention(nn.Module):
    """Multi-head attention of `x` on a source, with grouped key and value heads (arXiv:2305.13245)."""

    config: stack.Stack
    dtype: jnp.dtype

    def setup(self):
        """Name the four projections."""
        c = self.config
        std = c.init.kernel(c.width)
        query = c.init.query(c.width, c.size, c.scale_scores)
        out = c.init.output(c.heads * c.size, c.layers)
        pair = ((c.width, c.groups, c.size), ("embed", "kv_heads", "head_dim"), std, self.dtype)
        self.query = layers.Dense(
            (c.width, c.heads, c.size), ("embed", "heads", "head_dim"), query, self.dtype, bias=c.attention_bias
        )
        self.key = layers.Dense(*pair, bias=c.attention_bias)
        self.value = layers.Dense(*pair, bias=c.attention_bias)
        self.out = layers.Dense(
            (c.heads, c.size, c.width),
            ("heads", "head_dim", "embed"),
            out,
            self.dtype,
            contract=2,
            bias=c.attention_bias,
        )
        self.dropout = layers.Keep(c.attention_dropout)

    def pairs(self, source: Array, angles: tuple[Array, Array] | None = None) -> tuple[Array, Array]:
        """Keys and values [B, G, C, K] of a source [B, K, D], the keys rotated by `angles` if there are any."""
        key, value = self.key(source), self.value(source)
        if angles is not None:
            key = positions.rotate(key, angles)
        return _split(key, "kv_heads", (0, 2, 3, 1)), _split(value, "kv_heads", (0, 2, 3, 1))

    def __call__(
        self, x: Array, pairs: tuple[Array, Array], *, mask, bias=None, angles=None, own=None, kernel=None
    ) -> Array:
        """[B, Q, D] -> [B, Q, D], attending to the keys and values `pairs`; see `attend`.

        With `own`, the pairs [B, G, C, 1] of a single query itself follow those in `pairs` as a last key, and mask
        and bias have T + 1 keys; see `attend_cached`. A `kernel` (`kernels.Kernel`) takes the place of mask and bias.
        """
        query = self.query(x)
        if self.config.scale_scores:
            query = query * jnp.asarray(self.config.size**-0.5, self.dtype)
        if angles is not None:
            query = positions.rotate(query, angles)
        query = _split(query, "heads", (0, 2, 1, 3))
        if kernel is not None:
            out = kernel(query, *pairs)
        elif own is None:
            keep, rate = self.dropout((*query.shape[:3], pairs[0].shape[3]))
            out = attend(query, *pairs, mask=mask, bias=bias, keep=keep, rate=rate)
        else:
            out = attend_cached(query, pairs, own, mask=mask, bias=bias)
        return self.out(out.transpose(0, 2, 1, 3))


def _split(x: Array, heads: str, order: tuple[int, ...]) -> Array:
    """[B, L, H or G, C] with its axes in another order, placed on the mesh by heads of that axis name.

    Where a mesh splits the length, queries stay split and every device gathers the keys and values of whole rows.
    """
    names = ("batch", "length" if heads == "heads" else "keys", heads, "head_dim")
    return nn.with_logical_constraint(x.transpose(order), tuple(names[axis] for axis in order))


def attend_cached(query: Array, pairs, own, *, mask: Array, bias: Array | None) -> Array:
    """`attend` for one query a row, whose own key and value `own` [B, G, C, 1] are not yet among `pairs` [B, G, C, T].

    query [B, H, 1, C], mask [B, 1, 1, T + 1], bias [B, H, 1, T + 1] -> [B, H, 1, C]. The cache is read where it lies.
    """
    scores = jnp.concatenate([_product(query, key, 3, 2) for key in (pairs[0], own[0])], axis=-1)
    scores = scores + mask.astype(jnp.float32)
    if bias is not None:
        scores = scores + bias
    weights = jax.nn.softmax(scores, axis=-1).astype(query.dtype)
    out = _product(weights[..., :-1], pairs[1], 3, 3) + _product(weights[..., -1:], own[1], 3, 3)
    return out.astype(query.dtype)
