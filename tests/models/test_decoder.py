import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import decoder


@pytest.fixture(scope="module", params=["gpt2", "llama", "t5"])
def model(request, stacks):
    return decoder.Decoder(stack=stacks[request.param], vocabulary=61)


@pytest.fixture(scope="module")
def params(model, make_params):
    return make_params(model)


@pytest.fixture(scope="module")
def seen(model, params):
    """(batch) -> [L, L]: how much the state at each place (row) moves with the token at each place (column)."""
    table = "token_embedder/embedding"

    @jax.jit
    def moves(batch):
        def states(rows):
            hidden = model.apply(params | {table: rows}, batch).hidden[0]
            return hidden @ jnp.arange(1.0, 1 + hidden.shape[-1])

        return jnp.abs(jax.jacrev(states)(params[table])).max(axis=-1)

    def go(segments, prefix=None):
        ids = np.arange(len(segments), dtype=np.int32)[None]
        batch = {"decoder_inputs": ids, "decoder_segments": np.array([segments], np.int32), "decoder_positions": ids}
        if prefix is not None:
            batch["decoder_prefix"] = np.array([prefix], np.int32)
        return np.array(moves(batch)[:, : len(segments)] > 0, int)

    return go


def test_a_place_sees_itself_and_the_past_of_its_segment(seen):
    found = seen([1, 1, 1, 1, 2, 2, 0])
    np.testing.assert_array_equal(found[:4, :4], np.tril(np.ones((4, 4))))
    np.testing.assert_array_equal(found[4:6, 4:6], np.tril(np.ones((2, 2))))
    assert not found[:4, 4:].any() and not found[4:6, :4].any() and not found[:6, 6].any()


def test_a_prefix_sees_itself_whole_and_no_further(seen):
    found = seen([1, 1, 1, 1, 1], [1, 1, 1, 0, 0])
    causal = np.tril(np.ones((5, 5)))
    opened = causal.copy()
    opened[:3, :3] = 1
    assert (opened != causal).any()
    np.testing.assert_array_equal(found, opened)


def test_packed_rows_equal_rows_of_their_own(model, params):
    rng = np.random.default_rng(0)
    first, second = (rng.integers(1, 61, n, dtype=np.int32) for n in (5, 6))

    def batch(*documents):
        return {
            "decoder_inputs": np.concatenate(documents)[None],
            "decoder_segments": np.concatenate([np.full(len(d), i + 1, np.int32) for i, d in enumerate(documents)])[
                None
            ],
            "decoder_positions": np.concatenate([np.arange(len(d), dtype=np.int32) for d in documents])[None],
        }

    run = jax.jit(lambda batch: model.apply(params, batch).hidden[0])
    packed = run(batch(first, second))
    np.testing.assert_allclose(packed[:5], run(batch(first)), atol=2e-5)
    np.testing.assert_allclose(packed[5:], run(batch(second)), atol=2e-5)


def test_states_are_gathered_at_target_positions_if_the_batch_has_them(tiny, make_batch, make_params):
    model, batch = tiny["gpt2"], make_batch("decoder")
    params = make_params(model)
    where = np.array([[1, 4], [0, 6]], np.int32)
    run = jax.jit(model.apply)
    whole, some = run(params, batch).hidden, run(params, batch | {"target_positions": where}).hidden
    np.testing.assert_allclose(some, np.take_along_axis(np.array(whole), where[..., None], axis=1), atol=1e-6)


def test_a_bad_logit_scale_is_refused(stacks):
    with pytest.raises(ValueError, match="Decoder: logit_scale 'half' is unknown; choose one of none, width"):
        decoder.Decoder(stack=stacks["gpt2"], vocabulary=61, logit_scale="half")
