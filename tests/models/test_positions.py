import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import positions


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("count, furthest", [(32, 128), (64, 128), (128, 256), (8, 12)])
def test_buckets_are_those_of_t5(bidirectional, count, furthest):
    torch = pytest.importorskip("torch", reason="the reference buckets are those of transformers, which needs torch")
    modeling = pytest.importorskip("transformers.models.t5.modeling_t5", reason="the reference buckets")
    distance = np.arange(-400, 401, dtype=np.int32)
    ours = positions.buckets(jnp.asarray(distance), bidirectional=bidirectional, count=count, furthest=furthest)
    theirs = modeling.T5Attention._relative_position_bucket(
        torch.tensor(distance), bidirectional=bidirectional, num_buckets=count, max_distance=furthest
    )
    np.testing.assert_array_equal(ours, theirs.numpy())


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("queries, keys", [(7, 7), (3, 9), (9, 4), (1, 1)])
def test_the_bias_is_the_table_at_each_distance_and_so_is_its_gradient(stacks, bidirectional, queries, keys):
    module = positions.RelativeBias(dataclasses.replace(stacks["t5"], heads=3, head_dim=4), bidirectional)
    table = jax.random.normal(jax.random.key(0), (8, 3))
    distance = jnp.arange(keys)[None, :] - jnp.arange(queries)[:, None]

    def fast(table):
        return module.apply({"params": {"embedding": table}}, queries, keys)

    def slow(table):
        bucket = positions.buckets(distance, bidirectional=bidirectional, count=8, furthest=12)
        return jnp.stack([table[:, head][bucket] for head in range(3)])

    weights = jax.random.normal(jax.random.key(1), (3, queries, keys))

    def both(table):
        values = fast(table), slow(table)
        return values, [jax.grad(lambda table, f=f: jnp.sum(f(table) * weights))(table) for f in (fast, slow)]

    values, gradients = jax.jit(both)(table)
    np.testing.assert_array_equal(*values)
    np.testing.assert_allclose(*gradients, atol=1e-5)


def test_rotated_products_depend_on_the_distance_alone():
    query, key = jax.random.normal(jax.random.key(0), (2, 1, 1, 1, 8))

    def score(at, of):
        turned = [
            positions.rotate(x, positions.rotation(jnp.array([[place]]), size=8, base=10000.0))
            for x, place in ((query, at), (key, of))
        ]
        return float(jnp.sum(turned[0] * turned[1]))

    assert score(3, 1) == pytest.approx(score(12, 10), abs=1e-5)
    assert abs(score(3, 1) - score(3, 2)) > 1e-3
    assert score(5, 5) == pytest.approx(float(jnp.sum(query * key)), abs=1e-5)
