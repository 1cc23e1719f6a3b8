"""The states of every layer: those of a model cut off behind that layer, from the forward pass that trains."""

import dataclasses

import jax
import numpy as np
import pytest

from models import stack


def cut(model, params, layers):
    """A model of the first layers alone, with the parameters of those."""
    found = {field.name: getattr(model, field.name) for field in dataclasses.fields(model)}
    shorter = {
        name: dataclasses.replace(value, layers=layers)
        for name, value in found.items()
        if isinstance(value, stack.Stack)
    }
    kept = {path: value[:layers] if "/layers/" in path else value for path, value in params.items()}
    return dataclasses.replace(model, **shorter), kept


@pytest.mark.parametrize("name", ["bert", "llama"])
def test_the_states_of_a_layer_are_those_of_a_model_that_ends_there(tiny, make_batch, make_params, name):
    model = tiny[name]
    params, batch = make_params(model), make_batch(model.kind)
    (states,) = jax.jit(model.states)(params, batch).values()
    assert states.shape == (model.stack.layers + 1, *batch[f"{model.kind}_inputs"].shape, model.stack.width)
    shorter, kept = cut(model, params, 2)
    assert shorter != model
    (made,) = jax.jit(shorter.states)(kept, batch).values()
    np.testing.assert_allclose(made, states[:3], atol=1e-5)
    assert all(np.abs(np.diff(states, axis=0)).max(axis=(1, 2, 3)) > 1e-2), "no layer may hand on what it got"


def test_the_states_of_both_stacks_end_in_what_the_model_gives(tiny, make_batch, make_params):
    model = tiny["t5"]
    params, batch = make_params(model), make_batch("encdec")
    states, output = jax.jit(model.states)(params, batch), jax.jit(model.apply)(params, batch)
    assert {side: len(made) for side, made in states.items()} == {"encoder": 3, "decoder": 4}
    for side, given in (("encoder", output.encoded), ("decoder", output.hidden)):
        last = np.asarray(states[side][-1], np.float64)
        closed = last / np.sqrt(np.square(last).mean(axis=-1, keepdims=True) + model.encoder.norm_eps)
        np.testing.assert_allclose(closed * np.asarray(params[f"{side}/final_norm/scale"]), given, atol=1e-4)
    table = np.asarray(params["token_embedder/embedding"])
    np.testing.assert_allclose(states["encoder"][0], table[batch["encoder_inputs"]], atol=1e-6)


def test_a_side_that_the_batch_hasn_t_is_left_out(tiny, make_batch, make_params):
    model = tiny["t5"]
    params, whole = make_params(model), make_batch("encdec")
    read = {name: value for name, value in whole.items() if name.startswith("encoder_")}
    alone = jax.jit(model.states)(params, read)
    assert set(alone) == {"encoder"}
    np.testing.assert_array_equal(alone["encoder"], jax.jit(model.states)(params, whole)["encoder"])
    written = {name: value for name, value in whole.items() if name not in read}
    assert model.states(params, written) == {} == tiny["llama"].states(make_params(tiny["llama"]), read)
    assert tiny["bert"].states(make_params(tiny["bert"]), written) == {}
