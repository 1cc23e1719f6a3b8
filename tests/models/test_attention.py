import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import attention

B, H, G, Q, K, C = 2, 4, 2, 5, 6, 3


def _inputs(groups=G, seed=0):
    keys = jax.random.split(jax.random.key(seed), 5)
    query = jax.random.normal(keys[0], (B, H, Q, C))
    key, value = (jax.random.normal(k, (B, groups, C, K)) for k in keys[1:3])
    bias = jax.random.normal(keys[3], (H, Q, K))
    allowed = jnp.asarray(np.random.default_rng(seed).random((B, 1, Q, K)) < 0.7).at[0, 0, 2].set(False)
    return query, key, value, bias, allowed


def _plain(query, key, value, bias, allowed, keep=None, rate=0.0):
    """The definition, with repeated heads and a dense softmax."""
    key, value = (jnp.repeat(x, H // x.shape[1], axis=1) for x in (key, value))
    scores = jnp.einsum("bhqc,bhck->bhqk", query, key) + bias[None]
    weights = jax.nn.softmax(jnp.where(allowed, scores, -jnp.inf), axis=-1)
    weights = jnp.where(allowed.any(-1, keepdims=True), weights, 0)
    if keep is not None:
        weights = jnp.where(keep, weights / (1 - rate), 0)
    return jnp.einsum("bhqk,bhck->bhqc", weights, value)


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("dropped", [False, True])
def test_attend_is_softmax_attention_in_value_and_gradient(groups, dropped):
    query, key, value, bias, allowed = _inputs(groups)
    keep = jax.random.bernoulli(jax.random.key(9), 0.75, (B, H, Q, K)) if dropped else None
    mask = attention.hide(allowed, jnp.dtype("float32"))
    cotangent = jax.random.normal(jax.random.key(8), (B, H, Q, C))

    def ours(*args):
        return attention.attend(*args[:3], mask=mask, bias=args[3], keep=keep, rate=0.25 if dropped else 0.0)

    def plain(*args):
        # A row that sees nothing has no gradient in the definition either; keep its softmax off NaN.
        safe = allowed | ~allowed.any(-1, keepdims=True)
        full = _plain(*args, safe, keep, 0.25)
        return jnp.where(allowed.any(-1, keepdims=True), full, 0)

    args = (query, key, value, bias)

    @jax.jit
    def both(args):
        pairs = [jax.vjp(f, *args) for f in (ours, plain)]
        return [(value, *pull(cotangent)) for value, pull in pairs]

    for got, want in zip(*both(args)):
        np.testing.assert_allclose(got, want, atol=1e-5)


def test_a_query_that_sees_nothing_gives_zeros_and_no_nan():
    query, key, value, bias, allowed = _inputs()
    mask = attention.hide(jnp.zeros_like(allowed), jnp.dtype("float32"))
    out, pull = jax.vjp(lambda q, k, v, b: attention.attend(q, k, v, mask=mask, bias=b), query, key, value, bias)
    assert not np.any(out)
    assert not any(np.any(g) for g in pull(jnp.ones_like(out)))


def test_grouped_heads_equal_repeated_heads():
    query, key, value, bias, allowed = _inputs(groups=2)
    mask = attention.hide(allowed, jnp.dtype("float32"))
    repeated = [jnp.repeat(x, 2, axis=1) for x in (key, value)]
    assert key.shape[1] == 2 and repeated[0].shape[1] == H
    grouped = attention.attend(query, key, value, mask=mask, bias=bias)
    np.testing.assert_allclose(grouped, attention.attend(query, *repeated, mask=mask, bias=bias), atol=1e-6)


def test_one_query_on_a_cache_equals_attention_on_all_keys():
    query, key, value, bias, allowed = _inputs()
    mask = attention.hide(allowed, jnp.dtype("float32"))
    whole = attention.attend(query, key, value, mask=mask, bias=bias)[:, :, 1:2]
    old, own = [(key[..., s], value[..., s]) for s in (slice(0, -1), slice(-1, None))]
    cached = attention.attend_cached(query[:, :, 1:2], old, own, mask=mask[:, :, 1:2], bias=bias[None, :, 1:2])
    np.testing.assert_allclose(cached, whole, atol=1e-6)


def test_segment_mask_joins_equal_segments_and_never_padding():
    segments = jnp.asarray([[1, 1, 2, 0]])
    expected = [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(attention.segment_mask(segments, segments)[0, 0], np.array(expected, bool))


def test_causal_mask_opens_the_prefix_of_its_own_segment_alone():
    segments, prefix = jnp.asarray([[1, 1, 1, 2, 2, 2, 0]]), jnp.asarray([[1, 1, 0, 1, 1, 0, 0]])
    plain = np.array(attention.causal_mask(segments)[0, 0], int)
    opened = np.array(attention.causal_mask(segments, prefix)[0, 0], int)
    np.testing.assert_array_equal(plain[:3, :3], np.tril(np.ones((3, 3))))
    assert plain[3:, :3].sum() == plain[:3, 3:].sum() == plain[6].sum() == 0
    difference = opened - plain
    assert {tuple(x) for x in np.argwhere(difference)} == {(0, 1), (3, 4)} and difference.min() == 0
