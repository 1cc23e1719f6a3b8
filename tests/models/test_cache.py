import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import decoder

LENGTH = 7


@pytest.mark.parametrize("name", ["t5", "bart", "fused"])
def test_one_token_at_a_time_equals_all_at_once(tiny, make_batch, name, make_params):
    model, batch = tiny[name], make_batch("encdec", targets=LENGTH)
    batch["encoder_segments"][1, 5:] = 0
    params = make_params(model)
    whole = jax.jit(model.apply)(params, batch)
    segments = jnp.asarray(batch["encoder_segments"])
    cache = jax.jit(model.start_cache, static_argnums=(1, 2))(params, 2, LENGTH + 2, whole.encoded, segments)
    assert {leaf.shape[1] for leaf in jax.tree.leaves(cache)} == {2}, "the batch is axis 1 in every leaf"
    step = jax.jit(model.decode_step)
    for place in range(LENGTH):
        output, cache = step(params, cache, jnp.asarray(batch["decoder_inputs"][:, place]), place)
        assert output.hidden.shape == (2, 1, 24)
        np.testing.assert_allclose(output.hidden[:, 0], whole.hidden[:, place], atol=2e-5)
    logits = output.readout.logits(output.hidden)[:, 0]
    np.testing.assert_allclose(logits, whole.readout.logits(whole.hidden)[:, -1], atol=1e-4)


@pytest.mark.parametrize("name", ["gpt2", "llama", "t5"])
@pytest.mark.parametrize("prefix", [False, True])
def test_a_prompt_read_at_once_then_tokens_at_places_of_their_own(stacks, make_batch, name, prefix, make_params):
    """Rows with prompts of different lengths: each row's positions follow its own prompt."""
    model = decoder.Decoder(stack=stacks[name], vocabulary=61)
    params, batch = make_params(model), make_batch("decoder", targets=LENGTH)
    tokens, lengths = jnp.asarray(batch["decoder_inputs"]), jnp.array([4, 2])
    if prefix:
        batch["decoder_prefix"] = (np.arange(LENGTH)[None] < lengths[:, None]).astype(np.int32)
    whole = jax.jit(model.apply)(params, batch).hidden
    cache = model.start_cache(params, 2, LENGTH)
    prefill = jax.jit(model.prefill, static_argnames="prefix")
    output, cache = prefill(params, cache, tokens[:, :4], lengths, prefix=prefix)
    np.testing.assert_allclose(output.hidden[:, 0], whole[jnp.arange(2), lengths - 1], atol=2e-5)
    step = jax.jit(model.decode_step)
    for place in range(3):
        at = lengths + place
        output, cache = step(params, cache, tokens[jnp.arange(2), at], at)
        np.testing.assert_allclose(output.hidden[:, 0], whole[jnp.arange(2), at], atol=2e-5)


def test_rows_of_a_cache_can_be_shuffled(tiny, make_batch, make_params):
    model = tiny["gpt2"]
    params, batch = make_params(model), make_batch("decoder", rows=3)
    tokens = jnp.asarray(batch["decoder_inputs"])
    _, cache = jax.jit(model.prefill)(params, model.start_cache(params, 3, 8), tokens[:, :4], jnp.array([4, 4, 4]))
    order, step = jnp.array([2, 0, 0]), jax.jit(model.decode_step)
    straight, _ = step(params, cache, tokens[:, 4], 4)
    shuffled, _ = step(params, jax.tree.map(lambda x: x[:, order], cache), tokens[order, 4], 4)
    assert np.abs(straight.hidden - shuffled.hidden).max() > 1e-3
    np.testing.assert_allclose(shuffled.hidden, straight.hidden[order], atol=1e-5)


def test_a_batch_size_that_differs_from_the_encoded_rows_is_refused(tiny):
    with pytest.raises(ValueError, match="batch_size is 3 but encoded has 2 rows"):
        tiny["t5"].start_cache({}, 3, 5, jnp.zeros((2, 4, 24)), jnp.ones((2, 4), jnp.int32))
