import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import encoder, heads


@pytest.fixture(scope="module", params=["bert", "t5", "llama", "metro"])
def states(request, stacks, make_params):
    """An encoder without a head, for each kind of positions, its parameters, and its compiled states."""
    model = encoder.Encoder(stack=stacks[request.param], vocabulary=61)
    params = make_params(model)
    return model, params, jax.jit(lambda params, batch: model.apply(params, batch).hidden)


def test_a_place_sees_both_sides_and_only_its_segment(states):
    model, params, _ = states
    ids = np.arange(9, dtype=np.int32)[None]
    segments = np.array([[1, 1, 1, 1, 2, 2, 2, 0, 0]], np.int32)
    table = "token_embedder/embedding"

    def at(rows, place):
        """The sum of one state, with every token's embedding a row of its own."""
        batch = {"encoder_inputs": ids, "encoder_segments": segments, "encoder_positions": ids}
        hidden = model.apply(params | {table: rows}, batch).hidden
        return jnp.sum(hidden[0, place] * jnp.arange(1.0, 1 + hidden.shape[-1]))

    gradient = jax.jit(jax.grad(at), static_argnums=1)
    for place, seen in ((1, {0, 1, 2, 3}), (5, {4, 5, 6})):
        moved = np.abs(gradient(params[table], place)[:9]).max(axis=1)
        assert {int(i) for i in np.flatnonzero(moved)} == seen


def test_packed_rows_equal_rows_of_their_own_and_padding_is_inert(states):
    _, params, run = states
    rng = np.random.default_rng(0)
    lengths, total = (5, 4, 3), 14
    documents = [rng.integers(1, 61, n, dtype=np.int32) for n in lengths]
    filler = rng.integers(1, 61, total - sum(lengths), dtype=np.int32)

    def pad(parts):
        joined = np.concatenate(parts)
        return np.pad(joined, (0, total - len(joined)))[None]

    packed = {
        "encoder_inputs": np.concatenate([*documents, filler])[None],
        "encoder_segments": pad([np.full(n, i + 1, np.int32) for i, n in enumerate(lengths)]),
        "encoder_positions": pad([np.arange(n, dtype=np.int32) for n in lengths]),
    }
    alone = {
        "encoder_inputs": np.concatenate([pad([d]) for d in documents]),
        "encoder_segments": np.concatenate([pad([np.ones(n, np.int32)]) for n in lengths]),
        "encoder_positions": np.concatenate([pad([np.arange(n, dtype=np.int32)]) for n in lengths]),
    }
    assert packed["encoder_inputs"].shape != alone["encoder_inputs"].shape
    together, apart = run(params, packed)[0], run(params, alone)
    start = 0
    for row, length in enumerate(lengths):
        np.testing.assert_allclose(together[start : start + length], apart[row, :length], atol=2e-5)
        start += length
    assert np.isfinite(together).all()


def test_token_types_are_added_where_the_batch_has_them(stacks, make_batch, make_params):
    model = encoder.Encoder(stack=stacks["bert"], vocabulary=61)
    params, batch = make_params(model), make_batch("encoder")
    zeros = np.zeros_like(batch["encoder_inputs"])
    run = jax.jit(model.apply)
    absent = run(params, batch).hidden
    np.testing.assert_allclose(absent, run(params, batch | {"encoder_types": zeros}).hidden, atol=1e-6)
    assert np.abs(absent - run(params, batch | {"encoder_types": zeros + 1}).hidden).max() > 1e-3


def test_bfloat16_compute_stays_near_float32_and_parameters_stay_float32(tiny, make_batch, out, make_params):
    model, batch = tiny["bert"], make_batch("encoder")
    half = dataclasses.replace(model, dtype="bfloat16")
    assert half.dtype != model.dtype
    assert half.abstract() == model.abstract()
    params = make_params(half)
    full, low = jax.jit(model.apply)(params, batch), jax.jit(half.apply)(params, batch)
    assert low.hidden.dtype == jnp.bfloat16 and full.hidden.dtype == jnp.float32
    np.testing.assert_allclose(low.hidden.astype(jnp.float32), full.hidden, atol=0.1)
    grads = jax.eval_shape(jax.grad(lambda params: jnp.sum(out(half.apply(params, batch)))), params)
    assert {value.dtype for value in grads.values()} == {jnp.dtype("float32")}


def test_bad_models_are_refused(stacks):
    with pytest.raises(ValueError, match="Encoder: dtype 'float16' is unknown; choose one of float32, bfloat16"):
        encoder.Encoder(stack=stacks["bert"], vocabulary=61, dtype="float16")
    with pytest.raises(ValueError, match="Encoder: vocabulary 0 holds no token"):
        encoder.Encoder(stack=stacks["bert"], vocabulary=0, head=heads.MaskedLM())
