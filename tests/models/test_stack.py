import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import encdec, initial, stack


@pytest.fixture(scope="module")
def scanned(stacks):
    """A scanned encoder-decoder with fusion and dropout; fusion hands out the states of every layer."""
    config = dataclasses.replace(stacks["t5"], dropout=0.1, attention_dropout=0.1, mlp_dropout=0.1)
    return encdec.EncoderDecoder(encoder=config, decoder=config, vocabulary=61, fusion=True)


@pytest.fixture(scope="module")
def measure(scanned, make_batch, make_params):
    """(model, whether to drop) -> a loss and its gradients, as one compiled function gives them."""
    params, batch = make_params(scanned), make_batch("encdec")

    @functools.cache
    def run(model, dropout):
        def loss(params):
            output = model.apply(params, batch, key=jax.random.key(3) if dropout else None)
            return jnp.sum(jnp.sin(output.readout.logits(output.hidden)))

        return jax.jit(jax.value_and_grad(loss))(params)

    return run


def _engine(model, **engine):
    encoder, decoder = (dataclasses.replace(config, **engine) for config in (model.encoder, model.decoder))
    return dataclasses.replace(model, encoder=encoder, decoder=decoder)


@pytest.mark.parametrize(
    "engine, dropout",
    [
        ({"unroll": 3}, True),
        ({"unroll": 3, "remat": "full"}, False),
        ({"unroll": 2, "remat": "dots"}, False),
        ({"remat": "full"}, True),
    ],
    ids=str,
)
def test_scan_unroll_and_remat_are_one_model(scanned, measure, engine, dropout):
    other = _engine(scanned, **engine)
    assert other != scanned and (scanned.encoder.unroll, scanned.encoder.remat) == (1, "none")
    assert other.abstract() == scanned.abstract(), "storage must not depend on the engine"
    value, grads = measure(other, dropout)
    expected, expected_grads = measure(scanned, dropout)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    for path, grad in expected_grads.items():
        np.testing.assert_allclose(grads[path], grad, atol=1e-5 * max(1, float(jnp.abs(grad).max())), err_msg=path)


def test_dropout_needs_a_key_and_changes_something(measure, scanned):
    assert abs(float(measure(scanned, True)[0] - measure(scanned, False)[0])) > 1e-3


@pytest.mark.parametrize("unroll", [1, 3])
def test_remat_recomputes(scanned, make_batch, unroll):
    """Otherwise the equivalence above would compare a model with itself."""
    params = {path: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for path, leaf in scanned.abstract().items()}

    def products(remat):
        model = _engine(scanned, remat=remat, unroll=unroll)
        gradient = jax.grad(lambda params: jnp.sum(model.apply(params, make_batch("encdec")).hidden))
        return str(jax.make_jaxpr(gradient)(params)).count("dot_general")

    assert products("none") < products("dots") < products("full")


BAD = [
    ({"layers": 0}, "layers is 0; give at least 1"),
    ({"width": 25}, "width 25 is not a multiple of heads 4"),
    ({"kv_heads": 3}, "heads 4 is not a multiple of kv_heads 3"),
    ({"kv_heads": 8}, "heads 4 is not a multiple of kv_heads 8"),
    ({"activation": "gelo"}, "activation 'gelo' is unknown; choose one of gelu, gelu_tanh, relu, relu2, silu"),
    ({"norm": "batchnorm"}, "norm 'batchnorm' is unknown"),
    ({"norm_position": "mid"}, "norm_position 'mid' is unknown"),
    ({"positions": "alibi"}, "positions 'alibi' is unknown"),
    ({"remat": "some"}, "remat 'some' is unknown; choose one of none, dots, full"),
    ({"dropout": 1.0}, "dropout is 1.0; give a rate from 0 to below 1"),
    ({"attention_dropout": -0.1}, "attention_dropout is -0.1"),
    ({"positions": "rotary", "head_dim": 5}, "head size 5 is odd but rotary positions turn pairs"),
    ({"buckets": 6}, "buckets must be a multiple of 4"),
    ({"max_distance": 16}, "max_distance above half of it"),
    ({"types": -1}, "types is -1"),
    ({"unroll": 0}, "unroll is 0"),
]


@pytest.mark.parametrize("change, message", BAD, ids=[str(c) for c, _ in BAD])
def test_a_bad_stack_is_refused_in_one_line(change, message):
    with pytest.raises(ValueError, match="^Stack: ") as caught:
        stack.Stack(**{"layers": 2, "width": 24, "heads": 4, "mlp": 8} | change)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_bad_initial_values_are_refused():
    with pytest.raises(ValueError, match="scheme 'xavier' is unknown"):
        initial.Initial(scheme="xavier")
    with pytest.raises(ValueError, match="std -1"):
        initial.Initial(std=-1)
