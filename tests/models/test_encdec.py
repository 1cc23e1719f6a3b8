import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import encdec


@pytest.mark.parametrize("name", ["t5", "bart", "fused"])
def test_packed_rows_equal_rows_of_their_own(tiny, name, make_params):
    model = tiny[name]
    params = make_params(model)
    rng = np.random.default_rng(0)
    pairs = [[rng.integers(1, 61, n, dtype=np.int32) for n in sizes] for sizes in ((5, 3), (4, 4))]

    def batch(pairs):
        made = {}
        for index, side in enumerate(("encoder", "decoder")):
            documents = [pair[index] for pair in pairs]
            made |= {
                f"{side}_inputs": np.concatenate(documents)[None],
                f"{side}_segments": np.concatenate([np.full(len(d), i + 1) for i, d in enumerate(documents)])[None],
                f"{side}_positions": np.concatenate([np.arange(len(d)) for d in documents])[None],
            }
        return made

    run = jax.jit(lambda batch: model.apply(params, batch).hidden[0])
    packed = run(batch(pairs))
    np.testing.assert_allclose(packed[:3], run(batch(pairs[:1])), atol=2e-5)
    np.testing.assert_allclose(packed[3:], run(batch(pairs[1:])), atol=2e-5)


def test_the_decoder_is_causal_and_reads_the_encoder_segment_of_its_number(tiny, make_batch, make_params):
    model, batch = tiny["t5"], make_batch("encdec", rows=1, length=6, targets=5)
    params = make_params(model)
    batch["encoder_inputs"], batch["decoder_inputs"] = np.arange(6)[None], np.arange(10, 15)[None]
    batch["encoder_segments"] = np.array([[1, 1, 1, 2, 2, 0]])
    batch["decoder_segments"] = np.array([[1, 1, 1, 2, 2]])
    table = "token_embedder/embedding"

    @jax.jit
    def moves(place):
        def state(rows):
            hidden = model.apply(params | {table: rows}, batch).hidden[0, place]
            return hidden @ jnp.arange(1.0, 1 + hidden.shape[-1])

        return jnp.abs(jax.grad(state)(params[table])).max(axis=-1)

    for place, expected in ((1, {0, 1, 2, 10, 11}), (4, {3, 4, 13, 14})):
        assert {int(i) for i in np.flatnonzero(np.array(moves(place)))} == expected


def test_fusion_mixes_all_states_by_its_weights(tiny, make_batch, make_params):
    model, batch = tiny["fused"], make_batch("encdec")
    params, path = make_params(model), "decoder/fusion/weights"
    last = params | {path: jnp.array([-1e9, -1e9, -1e9, 0])}
    plain = dataclasses.replace(model, fusion=False)
    assert path not in plain.abstract()
    same = {key: value for key, value in params.items() if key != path}
    expected = jax.jit(plain.encode)(same, batch)
    encode = jax.jit(model.encode)
    np.testing.assert_allclose(encode(last, batch), expected, atol=1e-5)
    mixed = encode(params, batch)
    assert np.abs(mixed - expected).max() > 1e-2
    first = encode(params | {path: jnp.array([0, -1e9, -1e9, -1e9])}, batch)
    assert np.abs(mixed - first).max() > 1e-2

    def loss(weights):
        return jnp.sum(jnp.sin(model.apply(params | {path: weights}, batch).hidden))

    grad = jax.jit(jax.grad(loss))(params[path])
    assert np.all(np.abs(grad) > 1e-6)


def test_embeddings_shared_or_not_and_output_tied_or_not(tiny, make_batch, make_params):
    t5, fused = tiny["t5"], tiny["fused"]
    params, batch = make_params(fused), make_batch("encdec")
    output = jax.jit(fused.apply)(params, batch)
    np.testing.assert_array_equal(output.readout.kernel, params["decoder_token_embedder/embedding"])
    assert output.readout.scale == 24**-0.5
    params = make_params(t5)
    output = jax.jit(t5.apply)(params, batch)
    np.testing.assert_array_equal(output.readout.kernel, params["logits/kernel"])
    assert output.readout.scale == 1 and output.encoded.shape == (2, 9, 24)
    np.testing.assert_allclose(output.encoded, jax.jit(t5.encode)(params, batch), atol=1e-6)


def test_stacks_of_different_width_are_refused(stacks):
    narrow = dataclasses.replace(stacks["t5"], width=12)
    with pytest.raises(ValueError, match="encoder width 24 differs from decoder width 12; give both stacks the same"):
        encdec.EncoderDecoder(encoder=stacks["t5"], decoder=narrow, vocabulary=61)
