import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import layers, stack


@pytest.mark.parametrize(
    "x, kernel, contract", [((2, 3, 4), (4, 5), 1), ((2, 3, 4), (4, 5, 6), 1), ((2, 3, 4, 5), (4, 5, 6), 2)]
)
def test_product_and_its_gradient(x, kernel, contract):
    x, kernel = jax.random.normal(jax.random.key(0), x), jax.random.normal(jax.random.key(1), kernel)
    value, pull = jax.vjp(lambda x, k: layers.product(x, k, contract), x, kernel)
    plain, plain_pull = jax.vjp(lambda x, k: jnp.tensordot(x, k, contract), x, kernel)
    np.testing.assert_allclose(value, plain, atol=1e-5)
    cotangent = jax.random.normal(jax.random.key(2), value.shape)
    for got, want in zip(pull(cotangent), plain_pull(cotangent)):
        np.testing.assert_allclose(got, want, atol=1e-5)


def test_nothing_is_left_of_a_frozen_kernels_gradient():
    def loss(x, kernel):
        return jnp.sum(jnp.square(layers.product(layers.product(x, kernel, 1), kernel, 1)))

    def products(of):
        text = jax.jit(jax.grad(loss, argnums=of)).lower(jnp.ones((64, 32)), jnp.ones((32, 32))).compile().as_text()
        return len(re.findall(r" dot\(", text))

    assert products(0) == 4, "two forward, two for x"
    assert products((0, 1)) == 6


def test_in_bfloat16_the_kernel_keeps_a_float32_gradient():
    x, kernel = jnp.ones((300, 2), jnp.bfloat16), jnp.ones((2, 1))
    grad = jax.grad(lambda k: jnp.sum(layers.product(x, k, 1).astype(jnp.float32)))(kernel)
    assert grad.dtype == jnp.float32
    np.testing.assert_array_equal(grad, 300.0)  # 300 is not a bfloat16 number


def test_rounding_before_the_conversion_leaves_every_value_as_it_is():
    upper = np.arange(1 << 16, dtype=np.uint32) << 16
    bits = np.concatenate([upper | lower for lower in (0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF)])
    x = bits.view(np.float32)
    plain, rounded = (np.asarray(f(x)) for f in (lambda x: jnp.asarray(x).astype(jnp.bfloat16), rounding))
    number = ~np.isnan(x)
    np.testing.assert_array_equal(plain.view(np.uint16)[number], rounded.view(np.uint16)[number])
    assert np.isnan(rounded[~number].astype(np.float32)).all()
    assert "reduce_precision" in str(jax.make_jaxpr(rounding)(x)), "the two sides differ"


def rounding(x):
    return layers._rounded(jnp.dtype(jnp.bfloat16), jnp.asarray(x))


@pytest.mark.parametrize("name", stack.ACTIVATIONS)
def test_activations(name):
    x = np.linspace(-3, 3, 13).astype(np.float32)
    sigmoid = 1 / (1 + np.exp(-x))
    expected = {
        "gelu": np.array([v * jax.scipy.stats.norm.cdf(v) for v in x]),
        "gelu_tanh": 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
        "relu": np.maximum(x, 0),
        "relu2": np.maximum(x, 0) ** 2,
        "silu": x * sigmoid,
    }
    np.testing.assert_allclose(layers.activate(name, jnp.asarray(x)), expected[name], atol=1e-5)


def test_an_unknown_activation_is_refused():
    with pytest.raises(ValueError, match="activation 'gelo' is unknown; choose one of gelu"):
        layers.activate("gelo", jnp.ones(1))


@pytest.mark.parametrize("norm", stack.NORMS)
def test_norms_are_float32_inside(norm):
    config = stack.Stack(layers=1, width=4, heads=1, mlp=1, norm=norm, norm_eps=1e-6)
    x = (jnp.arange(4.0)[None] * 1e-2 + 3).astype(jnp.bfloat16)
    variables = {"params": {"scale": jnp.array([1.0, 2, 3, 4]), "bias": jnp.array([0.5, 0, 0, 0])}}
    found = layers.Norm(config, jnp.dtype("float32")).apply(variables, x)
    wide = np.asarray(x, np.float64)
    if norm == "layernorm":
        wide = wide - wide.mean()
    expected = wide / np.sqrt((wide**2).mean() + 1e-6) * [1, 2, 3, 4]
    if norm == "layernorm":
        expected = expected + [0.5, 0, 0, 0]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_dropout_keeps_the_mean_and_its_rate():
    x = jnp.ones((400, 500))
    dropped = layers.Dropout(0.3).apply({}, x, rngs={"dropout": jax.random.key(0)})
    assert float((dropped == 0).mean()) == pytest.approx(0.3, abs=0.005)
    assert float(dropped.mean()) == pytest.approx(1, abs=0.01)
    np.testing.assert_array_equal(layers.Dropout(0.3).apply({}, x), x)


def test_an_id_outside_its_table_is_loud():
    table = layers.Table(5, 3, "vocab", 1.0, jnp.dtype("float32"))
    found = table.apply({"params": {"embedding": jnp.ones((5, 3))}}, jnp.array([4, 5]))
    assert np.isfinite(found[0]).all() and np.isnan(found[1]).all()


def test_products_in_bfloat16_run_on_this_machine_and_equal_float32():
    """XLA's CPU has no bfloat16 product for some forms: those must not come up, forward or backward."""
    draw = np.random.default_rng(0)
    x, kernel = (draw.standard_normal(shape).astype(np.float32) for shape in ((4, 228, 1024), (1024, 512)))

    def loss(dtype, x, kernel):
        return jnp.sum(jnp.square(layers.product(x.astype(dtype), kernel, 1).astype(jnp.float32)))

    exact, rounded = (
        jax.jit(jax.value_and_grad(functools.partial(loss, dtype), argnums=(0, 1)))(x, kernel)
        for dtype in (jnp.float32, jnp.bfloat16)
    )
    for one, other in zip(jax.tree.leaves(exact), jax.tree.leaves(rounded)):
        assert not np.array_equal(one, other), "both sides computed in one dtype"
        np.testing.assert_allclose(other, one, atol=0.02 * np.abs(one).max())
