"""The kernel with the bias inside, interpreted on the CPU, against the plain path that holds the whole bias."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import attention, bucketed, positions, stack

B, H, L, C, BLOCK, COUNT, FURTHEST = 2, 2, 512, 8, 128, 8, 100
CONFIG = stack.Stack(
    layers=1, width=16, heads=H, mlp=4, positions="relative", buckets=COUNT, max_distance=FURTHEST, scale_scores=False
)


def _inputs(groups=H, dtype=jnp.float32):
    keys = jax.random.split(jax.random.key(0), 5)
    query, dout = (jax.random.normal(k, (B, H, L, C)).astype(dtype) for k in keys[:2])
    key, value = (jax.random.normal(k, (B, groups, C, L)).astype(dtype) for k in keys[2:4])
    # One packed row that ends in padding, with a whole block of it; one row of a single segment.
    ends = np.searchsorted([90, 150, 151, 380], np.arange(L), side="right") + 1
    segments = jnp.asarray(np.stack([np.where(ends > 4, 0, ends), np.ones(L, int)]), jnp.int32)
    return (query, key, value, jax.random.normal(keys[4], (COUNT, H))), segments, dout


def _both(causal, groups=H, dtype=jnp.float32):
    """((value, *gradients) of the kernel, the same of the plain path), and the two compiled texts."""
    args, segments, dout = _inputs(groups, dtype)
    bias = positions.RelativeBias(CONFIG, bidirectional=not causal)
    found = bucketed.buckets(bidirectional=not causal, count=COUNT, furthest=FURTHEST)
    shape = bucketed.Shape(bias=found, causal=causal, block=BLOCK, interpret=True)
    mask = attention.causal_mask(segments) if causal else attention.segment_mask(segments, segments)

    def kernel(query, key, value, table):
        return bucketed.attend(query, key, value, segments, table, shape)

    def plain(query, key, value, table):
        whole = bias.apply({"params": {"embedding": table}}, L, L)
        return attention.attend(query, key, value, mask=attention.hide(mask, jnp.dtype("float32")), bias=whole)

    def run(function):
        value, pull = jax.vjp(function, *args)
        return value, *pull(dout)

    return jax.jit(lambda: run(kernel))(), jax.jit(lambda: run(plain))()


@pytest.mark.parametrize("causal, groups", [(False, 2), (True, 1)])
def test_values_and_all_gradients_are_those_of_the_plain_path(causal, groups):
    assert L // BLOCK == 4 and FURTHEST < 2 * BLOCK, "blocks near, far before and far after must all occur"
    kernel, plain = _both(causal, groups)
    for name, got, want in zip(("out", "query", "key", "value", "table"), kernel, plain, strict=True):
        assert got.shape == want.shape and got.dtype == want.dtype
        scale = max(1.0, float(jnp.abs(want).max()))
        np.testing.assert_allclose(got / scale, want / scale, atol=2e-6, err_msg=name)
    assert not np.any(kernel[0][0, :, 380:]) and not np.any(kernel[1][0, :, 380:]), "padding gives nothing"


def test_bfloat16_is_as_near_to_float32_as_the_plain_path():
    exact = _both(False)[1]
    kernel, plain = _both(False, dtype=jnp.bfloat16)
    for name, got, want, true in zip(("out", "query", "key", "value", "table"), kernel, plain, exact, strict=True):
        error = [float(jnp.linalg.norm(x.astype(jnp.float32) - true) / jnp.linalg.norm(true)) for x in (got, want)]
        assert got.dtype == want.dtype and error[0] < max(1.2 * error[1], 0.01), (name, error)


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("count, furthest", [(32, 128), (64, 128), (128, 256), (8, 12)])
def test_buckets_are_those_of_positions(bidirectional, count, furthest):
    found = bucketed.buckets(bidirectional=bidirectional, count=count, furthest=furthest)
    distance = np.arange(-9000, 9001, dtype=np.int32)
    want = positions.buckets(jnp.asarray(distance), bidirectional=bidirectional, count=count, furthest=furthest)
    np.testing.assert_array_equal(found.of(distance), want)
    table = jnp.arange(count, dtype=jnp.float32)[None]
    np.testing.assert_array_equal(found.lookup(table, jnp.asarray(distance)[None])[0], want)


def test_the_whole_scores_are_nowhere():
    """At 8192 places one head's scores would take 256 MiB."""
    length = 8192
    shape = bucketed.Shape(
        bias=bucketed.buckets(bidirectional=True, count=32, furthest=128), causal=False, block=512, interpret=True
    )
    struct = jax.ShapeDtypeStruct
    args = (struct((1, 1, length, 64), jnp.float32), *[struct((1, 1, 64, length), jnp.float32)] * 2)
    segments, table = struct((1, length), jnp.int32), struct((32, 1), jnp.float32)

    def loss(query, key, value, table, segments):
        return bucketed.attend(query, key, value, segments, table, shape).sum()

    gradient = jax.make_jaxpr(jax.grad(loss, (0, 1, 2, 3)))(*args, table, segments)
    sizes = [v.aval.size for eqn in gradient.jaxpr.eqns for v in eqn.outvars if hasattr(v.aval, "size")]
    assert max(sizes) <= length * 64 < length * length
    assert dataclasses.replace(shape, block=256) != shape
