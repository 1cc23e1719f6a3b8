import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import encdec, initial, stack


@pytest.fixture(scope="module")
def reference(make_batch, stacks):
    """A scanned encoder-decoder with fusion, its parameters, batch, and the function of value and gradient."""
    config = dataclasses.replace(stacks["t5"], dropout=0.1, attention_dropout=0.1, mlp_dropout=0.1)
    model = encdec.EncoderDecoder(encoder=config, decoder=config, vocabulary=61, fusion=True)
    params = model.init(jax.random.key(0))
    batch = make_batch("encdec")

    def measure(model, dropout):
        def loss(params):
            output = model.apply(params, batch, key=jax.random.key(3) if dropout else None)
            return jnp.sum(jnp.sin(output.readout.logits(output.hidden)))

        return jax.jit(jax.value_and_grad(loss))(params)

    return model, measure, {dropout: measure(model, dropout) for dropout in (False, True)}


ENGINES = {
    "unrolled": {"unroll": 3},
    "partly unrolled": {"unroll": 2},
    "dots": {"remat": "dots"},
    "full": {"remat": "full"},
    "unrolled full": {"unroll": 3, "remat": "full"},
}


@pytest.mark.parametrize("dropout", [False, True])
@pytest.mark.parametrize("engine", ENGINES)
def test_scan_unroll_and_remat_are_one_model(reference, engine, dropout):
    model, measure, expected = reference
    config = dataclasses.replace(model.encoder, **ENGINES[engine])
    assert config != model.encoder and (model.encoder.unroll, model.encoder.remat) == (1, "none")
    other = dataclasses.replace(model, encoder=config, decoder=config)
    assert other.abstract() == model.abstract(), "storage must not depend on the engine"
    value, grads = measure(other, dropout)
    np.testing.assert_allclose(value, expected[dropout][0], rtol=1e-5)
    for path, grad in expected[dropout][1].items():
        np.testing.assert_allclose(grads[path], grad, atol=1e-5 * max(1, float(jnp.abs(grad).max())), err_msg=path)


def test_dropout_changes_something_only_with_a_key(reference):
    _, _, expected = reference
    assert abs(float(expected[True][0] - expected[False][0])) > 1e-3


def test_remat_recomputes(reference):
    """Otherwise the equivalence above would compare a model with itself."""
    model, measure, _ = reference

    def flops(remat):
        config = dataclasses.replace(model.encoder, remat=remat, unroll=3)
        other = dataclasses.replace(model, encoder=config, decoder=config)
        params = {path: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for path, leaf in other.abstract().items()}
        text = jax.jit(lambda params: measure(other, False) and 0).lower if False else None
        del text
        jaxpr = jax.make_jaxpr(jax.grad(lambda p: jnp.sum(other.apply(p, batch).hidden)))(params)
        return str(jaxpr).count("dot_general")

    batch = {k: jnp.ones((2, 8), jnp.int32) for k in other_names()}
    assert flops("none") < flops("full")


def other_names():
    return [f"{side}_{what}" for side in ("encoder", "decoder") for what in ("inputs", "segments", "positions")]


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
