"""Self-attention with T5's relative bias as a Pallas kernel for TPUs, which makes the bias inside each block.

The scores are never whole, nor is the bias: of a block of queries and keys the kernel sees `block` x `block` scores at
a time with a running softmax (FlashAttention, arXiv:2205.14135), and it looks the bias up from the table of buckets for
the 2 * `block` distances that occur in the block. Blocks that lie further apart than the last bucket begins share one
number; blocks without a segment in common are skipped.

Shapes: B batch, H heads, G key and value heads, L length, C head size, N blocks in a row.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from models import positions, tile

VMEM = 48 << 20
"""Bytes of vector memory that the compiler may use: the backward pass keeps a row's query gradient there."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shape:
    """What a kernel is compiled for besides its arrays' shapes: the bias, the order, the block of queries and keys."""

    bias: tile.Buckets
    causal: bool
    block: int
    interpret: bool = False


def buckets(*, bidirectional: bool, count: int, furthest: int) -> tile.Buckets:
    """`positions.buckets` as the distances at which it changes; beyond `furthest` it does not."""
    distance = np.arange(-furthest - 1, furthest + 2, dtype=np.int32)
    bucket = positions.buckets(distance, bidirectional=bidirectional, count=count, furthest=furthest, of=np).tolist()
    changes = [at for at in range(1, len(bucket)) if bucket[at] != bucket[at - 1]]
    return tile.Buckets(count, bucket[0], tuple((at - furthest - 1, bucket[at]) for at in changes))


def attend(query: Array, key: Array, value: Array, segments: Array, table: Array, shape: Shape) -> Array:
    """softmax(query key + bias) value inside segments; zeros for a query of segment 0.

    query [B, H, L, C], key and value [B, G, C, L], segments [B, L], table [buckets, H] float32 -> [B, H, L, C]. L is a
    multiple of the block and the block of 128. The softmax is float32; the derivative covers the table too.
    """
    return _attend(shape, query, key, value, segments, table)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(shape, query, key, value, segments, table):
    return _forward(shape, query, key, value, segments, table)[0]


def _forward(shape, query, key, value, segments, table):
    b, h, length, size = query.shape
    group, n, block = h // key.shape[1], length // shape.block, shape.block

    def far(i, j):
        # A block that is skipped asks for the one before it again, which is there already.
        return jnp.minimum(i, j) if shape.causal else j

    queries = pl.BlockSpec((None, None, block, size), lambda b, h, i, j: (b, h, i, 0))
    keys = pl.BlockSpec((None, None, size, block), lambda b, h, i, j: (b, lax.div(h, group), 0, far(i, j)))
    column = pltpu.VMEM((block, tile.LANES), jnp.float32)
    out, norm = pl.pallas_call(
        functools.partial(_forward_kernel, shape),
        grid=(b, h, n, n),
        in_specs=[
            pl.BlockSpec((None, 1, shape.bias.count), lambda b, h, i, j: (h, 0, 0), memory_space=pltpu.SMEM),
            *[pl.BlockSpec((None, 1, n), lambda b, h, i, j: (b, 0, 0), memory_space=pltpu.SMEM)] * 2,
            pl.BlockSpec((None, 1, block), lambda b, h, i, j: (b, 0, i)),
            pl.BlockSpec((None, 1, block), lambda b, h, i, j: (b, 0, far(i, j))),
            queries,
            keys,
            keys,
        ],
        out_specs=[queries, pl.BlockSpec((None, None, 1, block), lambda b, h, i, j: (b, h, 0, i))],
        out_shape=[
            jax.ShapeDtypeStruct(query.shape, query.dtype),
            jax.ShapeDtypeStruct((b, h, 1, length), jnp.float32),
        ],
        scratch_shapes=[column, column, pltpu.VMEM((block, size), jnp.float32)],
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "parallel", "parallel", "arbitrary"), vmem_limit_bytes=VMEM
        ),
        cost_estimate=_cost(shape, query, products=2, arrays=(query, key, value, query)),
        interpret=shape.interpret,
        name="bucketed_attention",
    )(_by_head(table), *_ranges(segments, n), segments[:, None], segments[:, None], query, key, value)
    return out, (query, key, value, segments, table, out, norm)


def _backward(shape, saved, dout):
    query, key, value, segments, table, out, norm = saved
    b, h, length, size = query.shape
    group, n, block = h // key.shape[1], length // shape.block, shape.block
    first, last = shape.bias.near(block, n, shape.causal)
    # The table's gradient is summed over the rows, so heads come first and rows after them in order.

    def far(i, j):
        return jnp.maximum(i, j) if shape.causal else i

    queries = pl.BlockSpec((None, None, block, size), lambda h, b, j, i: (b, h, far(i, j), 0))
    row = pl.BlockSpec((None, None, 1, block), lambda h, b, j, i: (b, h, 0, far(i, j)))
    keys = pl.BlockSpec((None, None, size, block), lambda h, b, j, i: (b, lax.div(h, group), 0, j))
    dkeys = pl.BlockSpec((None, None, size, block), lambda h, b, j, i: (b, h, 0, j))
    # Query gradients are complete, and leave, while the last block of keys is worked on.
    dqueries = pl.BlockSpec((None, None, block, size), lambda h, b, j, i: (b, h, jnp.where(j == n - 1, i, 0), 0))
    wide = key.dtype if group == 1 else jnp.float32
    slots = last - first + 3
    dquery, dkey, dvalue, ddistance = pl.pallas_call(
        functools.partial(_backward_kernel, shape, first),
        grid=(h, b, n, n),
        in_specs=[
            pl.BlockSpec((None, 1, shape.bias.count), lambda h, b, j, i: (h, 0, 0), memory_space=pltpu.SMEM),
            *[pl.BlockSpec((None, 1, n), lambda h, b, j, i: (b, 0, 0), memory_space=pltpu.SMEM)] * 2,
            pl.BlockSpec((None, 1, block), lambda h, b, j, i: (b, 0, far(i, j))),
            pl.BlockSpec((None, 1, block), lambda h, b, j, i: (b, 0, j)),
            queries,
            keys,
            keys,
            row,
            queries,
            queries,
        ],
        out_specs=[
            dqueries,
            dkeys,
            dkeys,
            pl.BlockSpec((None, slots, 1, 2 * block), lambda h, b, j, i: (h, 0, 0, 0)),
        ],
        out_shape=[
            jax.ShapeDtypeStruct(query.shape, query.dtype),
            *[jax.ShapeDtypeStruct((b, h, size, length), wide)] * 2,
            jax.ShapeDtypeStruct((h, slots, 1, 2 * block), jnp.float32),
        ],
        scratch_shapes=[pltpu.VMEM((length, size), jnp.float32), *[pltpu.VMEM((size, block), jnp.float32)] * 2],
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "arbitrary", "arbitrary", "arbitrary"), vmem_limit_bytes=VMEM
        ),
        cost_estimate=_cost(shape, query, products=5, arrays=(query,) * 4 + (key, value) * 2),
        interpret=shape.interpret,
        name="bucketed_attention_backward",
    )(_by_head(table), *_ranges(segments, n), segments[:, None], segments[:, None], query, key, value, norm, out, dout)
    if group > 1:
        dkey, dvalue = (x.reshape(b, -1, group, size, length).sum(axis=2).astype(key.dtype) for x in (dkey, dvalue))
    return dquery, dkey, dvalue, None, _to_buckets(shape, ddistance, first, table)


_attend.defvjp(_forward, _backward)


def _forward_kernel(
    shape, table, low, high, query_segments, key_segments, query, key, value, out, norm, top, total, sums
):
    i, j = pl.program_id(2), pl.program_id(3)

    @pl.when(j == 0)
    def _():
        # The floor keeps a row of nothing but hidden pairs at zero weight.
        top[...] = jnp.full_like(top, tile.HIDDEN / 2)
        total[...] = jnp.zeros_like(total)
        sums[...] = jnp.zeros_like(sums)

    def step(bias, near):
        meet = tile.meet(query_segments[...], key_segments[...], ordered=(i, j) if near and shape.causal else None)
        scores = jnp.where(meet, tile.dot(query[...], key[...], 1, 0) + bias, tile.HIDDEN)
        before = top[:, :1]
        highest = jnp.maximum(before, jnp.max(scores, axis=1, keepdims=True))
        weights = jnp.exp(scores - highest)
        decay = jnp.exp(before - highest)
        top[...] = jnp.broadcast_to(highest, top.shape)
        total[...] = total[...] * decay + jnp.sum(weights, axis=1, keepdims=True)
        sums[...] = sums[...] * decay + tile.dot(weights.astype(value.dtype), value[...], 1, 1)

    tile.visit(step, shape.bias, table, low, high, i, j, shape.block, causal=shape.causal)

    @pl.when(j == pl.num_programs(3) - 1)
    def _():
        some = total[:, :1] > 0
        divisor = jnp.where(some, total[:, :1], 1.0)
        out[...] = (sums[...] / divisor).astype(out.dtype)
        # A row that saw nothing has no weight in the backward pass either.
        norm[...] = tile.row(jnp.where(some, top[:, :1] + jnp.log(divisor), -tile.HIDDEN))


def _backward_kernel(
    shape, first, table, low, high, query_segments, key_segments, query, key, value, norm, out, dout,
    dquery, dkey, dvalue, ddistance, dquery_sums, dkey_sums, dvalue_sums,
):  # fmt: skip
    row, j, i = pl.program_id(1), pl.program_id(2), pl.program_id(3)
    n, block = pl.num_programs(3), shape.block
    mine = pl.ds(pl.multiple_of(i * block, block), block)

    @pl.when((row == 0) & (j == 0) & (i == 0))
    def _():
        ddistance[...] = jnp.zeros_like(ddistance)

    @pl.when(i == 0)
    def _():
        dkey_sums[...] = jnp.zeros_like(dkey_sums)
        dvalue_sums[...] = jnp.zeros_like(dvalue_sums)

    @pl.when(j == 0)
    def _():
        dquery_sums[mine, :] = jnp.zeros((block, dquery_sums.shape[1]), jnp.float32)

    def step(bias, near):
        meet = tile.meet(query_segments[...], key_segments[...], ordered=(i, j) if near and shape.causal else None)
        scores = jnp.where(meet, tile.dot(query[...], key[...], 1, 0) + bias, tile.HIDDEN)
        weights = jnp.exp(scores - tile.column(norm[...]))
        inner = jnp.sum(dout[...].astype(jnp.float32) * out[...].astype(jnp.float32), axis=1, keepdims=True)
        dscores = weights * (tile.dot(dout[...], value[...], 1, 0) - inner)
        dvalue_sums[...] += tile.dot(dout[...], weights.astype(dout.dtype), 0, 0)
        small = dscores.astype(query.dtype)
        dkey_sums[...] += tile.dot(query[...], small, 0, 0)
        dquery_sums[mine, :] += tile.dot(small, key[...], 1, 1)
        slot = jnp.clip(j - i - first + 1, 0, ddistance.shape[0] - 1)
        if near:
            ddistance[slot] += tile.diagonals(dscores)
        else:
            ddistance[slot, :, :block] += jnp.sum(dscores, axis=0, keepdims=True)

    tile.visit(step, shape.bias, table, low, high, i, j, block, causal=shape.causal)

    @pl.when(i == n - 1)
    def _():
        dkey[...] = dkey_sums[...].astype(dkey.dtype)
        dvalue[...] = dvalue_sums[...].astype(dvalue.dtype)

    @pl.when(j == n - 1)
    def _():
        dquery[...] = dquery_sums[mine, :].astype(dquery.dtype)


def _to_buckets(shape: Shape, ddistance: Array, first: int, table: Array) -> Array:
    """Gradient [buckets, H] from sums [H, slots, 1, 2 * block] over the pairs at each distance.

    The first and the last slot are of blocks so far apart that all their pairs are in one bucket.
    """
    h, slots, _, width = ddistance.shape
    u = np.arange(width)
    distance = (first - 1 + np.arange(slots))[:, None] * shape.block + np.where(u < shape.block, u, u - width)
    bucket = shape.bias.of(distance)
    bucket[0], bucket[-1] = shape.bias.of(np.array([np.iinfo(np.int32).min, np.iinfo(np.int32).max]))
    member = jnp.asarray(bucket.reshape(-1, 1)) == jnp.arange(shape.bias.count)[None]
    sums = lax.dot(ddistance.reshape(h, -1), member.astype(jnp.float32), precision=lax.Precision.HIGHEST)
    return sums.T.astype(table.dtype)


def _by_head(table: Array) -> Array:
    return table.astype(jnp.float32).T[:, None]


def _ranges(segments: Array, n: int) -> tuple[Array, Array]:
    """Smallest and largest segment of each block, padding left out: two [B, 1, N]."""
    blocks = segments.reshape(segments.shape[0], 1, n, -1)
    return jnp.min(jnp.where(blocks > 0, blocks, np.iinfo(np.int32).max), axis=-1), jnp.max(blocks, axis=-1)


def _cost(shape: Shape, query: Array, *, products: int, arrays: tuple[Array, ...]) -> pl.CostEstimate:
    b, h, length, size = query.shape
    pairs = b * h * length * length // (2 if shape.causal else 1)
    return pl.CostEstimate(
        flops=2 * products * pairs * size,
        transcendentals=pairs,
        bytes_accessed=sum(x.size * x.dtype.itemsize for x in arrays),
    )
