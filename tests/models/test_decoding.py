"""Greedy and beam search: equal to Hugging Face `generate`, independent rows, and what ends an output."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import decoder, decoding, encdec, stack

VOCABULARY, LENGTH, ROWS, END = 50, 14, 50, 1

T5 = {
    "layers": 2,
    "width": 32,
    "heads": 4,
    "head_dim": 8,
    "mlp": 48,
    "activation": "gelu_tanh",
    "gated": True,
    "norm": "rmsnorm",
    "positions": "relative",
    "attention_bias": False,
    "mlp_bias": False,
    "scale_scores": False,
}
LLAMA = {**T5, "activation": "silu", "positions": "rotary", "scale_scores": True, "kv_heads": 2}


@pytest.fixture(scope="module")
def seq2seq():
    return encdec.EncoderDecoder(
        encoder=stack.Stack(**T5), decoder=stack.Stack(**T5), vocabulary=VOCABULARY, tied=False
    )


@pytest.fixture(scope="module")
def causal():
    return decoder.Decoder(stack=stack.Stack(**LLAMA), vocabulary=VOCABULARY, tied=False)


def _random(model, seed=0):
    """Weights large enough for varied outputs, in which the end token is likely enough to stop some of them."""
    draw = np.random.default_rng(seed).normal
    params = {path: draw(size=leaf.shape, scale=0.4).astype(np.float32) for path, leaf in model.abstract().items()}
    params = {path: 1 + 0.1 * x if path.endswith("scale") else x for path, x in params.items()}
    params["logits/kernel"][END] *= 2
    return {path: jnp.asarray(x) for path, x in params.items()}


def _ragged(side, length=9, least=1):
    """Random tokens of random lengths, padded on the right, as features of one side."""
    draw = np.random.default_rng(7)
    real = np.arange(length)[None] < draw.integers(least, length + 1, ROWS)[:, None]
    tokens = np.where(real, draw.integers(3, VOCABULARY, (ROWS, length)), 0).astype(np.int32)
    places = np.broadcast_to(np.arange(length, dtype=np.int32), tokens.shape)
    return {f"{side}_inputs": tokens, f"{side}_segments": real.astype(np.int32), f"{side}_positions": places}


def _flat(params, path, layer):
    """A kernel of one layer as Hugging Face keeps it: [out, in]."""
    kernel = np.asarray(params[path][layer])
    inputs = 2 if path.endswith("out/kernel") else 1
    return kernel.reshape(int(np.prod(kernel.shape[:inputs])), -1).T


@pytest.fixture(scope="module")
def torch():
    module = pytest.importorskip("torch", reason="torch is not installed: nothing to compare with")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("transformers", reason="transformers is not installed: nothing to compare with")
    return module


def _load(torch, model, state):
    """Put numpy arrays into a Hugging Face model, every one of its parameters."""
    missing = {name for name, _ in model.named_parameters()} - set(state)
    assert not missing, f"not mapped: {sorted(missing)}"
    model.load_state_dict({name: torch.tensor(np.array(x)) for name, x in state.items()}, strict=False)
    return model.eval()


@pytest.fixture(scope="module")
def hugging_t5(torch, seq2seq):
    import transformers

    config = transformers.T5Config(
        vocab_size=VOCABULARY, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4,
        feed_forward_proj="gated-gelu", tie_word_embeddings=False, decoder_start_token_id=0, pad_token_id=0,
        eos_token_id=END, dropout_rate=0.0,
    )  # fmt: skip
    # The argument only takes away the factor on the logits; the attribute unties.
    config.tie_word_embeddings = False
    params = _random(seq2seq)
    embedding = params["token_embedder/embedding"]
    state = {"shared.weight": embedding, "lm_head.weight": params["logits/kernel"]}
    for side in ("encoder", "decoder"):
        state[f"{side}.embed_tokens.weight"] = embedding
        state[f"{side}.final_layer_norm.weight"] = params[f"{side}/final_norm/scale"]
        name = f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        state[name] = params[f"{side}/relative_bias/embedding"]
        parts = {"self_attention": "SelfAttention", "cross_attention": "EncDecAttention", "mlp": "DenseReluDense"}
        for layer in range(2):
            present = [part for part in parts if f"{side}/layers/{part}_norm/scale" in params]
            for index, part in enumerate(present):
                at = f"{side}.block.{layer}.layer.{index}"
                state[f"{at}.layer_norm.weight"] = params[f"{side}/layers/{part}_norm/scale"][layer]
                names = {"query": "q", "key": "k", "value": "v", "out": "o"}
                if part == "mlp":
                    names = {"wi_gate": "wi_0", "wi": "wi_1", "wo": "wo"}
                for ours, theirs in names.items():
                    kernel = _flat(params, f"{side}/layers/{part}/{ours}/kernel", layer)
                    state[f"{at}.{parts[part]}.{theirs}.weight"] = kernel
    return _load(torch, transformers.T5ForConditionalGeneration(config), state), params


@pytest.fixture(scope="module")
def hugging_llama(torch, causal):
    import transformers

    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, rms_norm_eps=1e-6, rope_theta=10000.0, tie_word_embeddings=False,
        pad_token_id=0, bos_token_id=2, eos_token_id=END,
    )  # fmt: skip
    params = _random(causal)
    state = {
        "model.embed_tokens.weight": params["token_embedder/embedding"],
        "model.norm.weight": params["decoder/final_norm/scale"],
        "lm_head.weight": params["logits/kernel"],
    }
    names = {"self_attention/query": "self_attn.q_proj", "self_attention/key": "self_attn.k_proj"}
    names |= {"self_attention/value": "self_attn.v_proj", "self_attention/out": "self_attn.o_proj"}
    names |= {"mlp/wi_gate": "mlp.gate_proj", "mlp/wi": "mlp.up_proj", "mlp/wo": "mlp.down_proj"}
    for layer in range(2):
        at = f"model.layers.{layer}"
        state[f"{at}.input_layernorm.weight"] = params["decoder/layers/self_attention_norm/scale"][layer]
        state[f"{at}.post_attention_layernorm.weight"] = params["decoder/layers/mlp_norm/scale"][layer]
        for ours, theirs in names.items():
            state[f"{at}.{theirs}.weight"] = _flat(params, f"decoder/layers/{ours}/kernel", layer)
    return _load(torch, transformers.LlamaForCausalLM(config), state), params


def _generate(torch, model, inputs, mask, *, beams, length_penalty, prompt):
    """Tokens after the first `prompt`, with our padding after the end token, and beam scores."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        result = model.generate(
            input_ids=torch.tensor(inputs, dtype=torch.long), attention_mask=torch.tensor(mask, dtype=torch.long),
            max_new_tokens=LENGTH, num_beams=beams, do_sample=False, length_penalty=length_penalty,
            early_stopping=False, return_dict_in_generate=True, output_scores=True,
        )  # fmt: skip
    tokens = np.full((len(inputs), LENGTH), 0)
    for row, sequence in enumerate(result.sequences[:, prompt:].numpy()):
        stops = np.flatnonzero(sequence == END)
        # After the end token beam search fills with the end token there where the padding id is 0.
        sequence = sequence[: stops[0] + 1] if len(stops) else sequence
        tokens[row, : len(sequence)] = sequence
    return tokens, None if beams == 1 else result.sequences_scores.numpy()


SEARCHES = [(1, 1.0), (4, 0.6), (4, 2.0), (4, -0.5)]


@pytest.mark.parametrize("beams, length_penalty", SEARCHES, ids=["greedy", "beam-0.6", "beam-2", "beam-negative"])
def test_encoder_decoder_equals_generate(torch, seq2seq, hugging_t5, beams, length_penalty):
    theirs, params = hugging_t5
    batch = _ragged("encoder")
    search = decoding.Search(length=LENGTH, beams=beams, length_penalty=length_penalty, end=END)
    got = decoding.decode(seq2seq, params, batch, search=search)
    options = {"beams": beams, "length_penalty": length_penalty, "prompt": 1}
    want, scores = _generate(torch, theirs, batch["encoder_inputs"], batch["encoder_segments"], **options)
    ended = (want == END).any(axis=1)
    assert 3 < ended.sum() < ROWS - 3 or beams > 1, "some outputs must end early and some must not"
    assert len(np.unique(want, axis=0)) > ROWS / 4
    np.testing.assert_array_equal(got.tokens, want)
    if scores is not None:
        np.testing.assert_allclose(got.scores, scores, rtol=1e-4)


@pytest.mark.parametrize("beams, length_penalty", SEARCHES[:2], ids=["greedy", "beam-0.6"])
def test_decoder_equals_generate(torch, causal, hugging_llama, beams, length_penalty):
    theirs, params = hugging_llama
    batch = _ragged("decoder")
    search = decoding.Search(length=LENGTH, beams=beams, length_penalty=length_penalty, end=END)
    got = decoding.decode(causal, params, batch, search=search)
    # There prompts are padded on the left.
    order = np.argsort(batch["decoder_segments"], axis=1, kind="stable")
    left, mask = (np.take_along_axis(batch[f"decoder_{name}"], order, axis=1) for name in ("inputs", "segments"))
    assert (left != batch["decoder_inputs"]).any()
    options = {"beams": beams, "length_penalty": length_penalty, "prompt": left.shape[1]}
    want, _ = _generate(torch, theirs, left, mask, **options)
    assert len(np.unique(want, axis=0)) > ROWS / 4
    np.testing.assert_array_equal(got.tokens, want)


@pytest.mark.parametrize("beams", [1, 3])
def test_rows_do_not_influence_each_other(seq2seq, beams):
    params, batch = _random(seq2seq), _ragged("encoder")
    search = decoding.Search(length=LENGTH, beams=beams, end=END)
    together = decoding.decode(seq2seq, params, batch, search=search)
    lengths = (np.asarray(together.tokens) != 0).sum(axis=1)
    assert len(set(lengths.tolist())) > 2, "the rows must end at different times"
    for row in (0, 7, 31):
        alone = decoding.decode(seq2seq, params, {k: v[row : row + 1] for k, v in batch.items()}, search=search)
        np.testing.assert_array_equal(alone.tokens[0], together.tokens[row])
        np.testing.assert_allclose(alone.scores[0], together.scores[row], rtol=1e-4)


@pytest.mark.parametrize("beams", [1, 4])
def test_the_end_token_ends(seq2seq, beams):
    certain = encdec.EncoderDecoder(**{**vars(seq2seq), "output_bias": True})
    params, batch = _random(certain), _ragged("encoder")
    params["logits/bias"] = jnp.full((VOCABULARY,), 0.0).at[END].set(1e3)
    got = decoding.decode(certain, params, batch, search=decoding.Search(length=LENGTH, beams=beams, end=END))
    np.testing.assert_array_equal(got.tokens, np.eye(1, LENGTH, dtype=np.int32).repeat(ROWS, axis=0) * END)
    never = {**params, "logits/bias": -params["logits/bias"]}
    got = decoding.decode(certain, never, batch, search=decoding.Search(length=LENGTH, beams=beams, end=END))
    assert not (got.tokens == END).any() and got.tokens.shape == (ROWS, LENGTH)


def test_beams_find_what_greed_misses(seq2seq):
    params, batch = _random(seq2seq), _ragged("encoder")
    found = {
        beams: decoding.decode(
            seq2seq, params, batch, search=decoding.Search(length=LENGTH, beams=beams, length_penalty=0.0, end=END)
        )
        for beams in (1, 4)
    }
    assert (found[1].tokens != found[4].tokens).any()
    assert found[4].scores.mean() > found[1].scores.mean()


def test_a_prefix_sees_itself(causal):
    params, batch = _random(causal), _ragged("decoder", least=4)
    search = decoding.Search(length=LENGTH, end=END)
    plain = decoding.decode(causal, params, batch, search=search)
    whole = decoding.decode(causal, params, {**batch, "decoder_prefix": batch["decoder_segments"]}, search=search)
    assert (plain.tokens != whole.tokens).any()
    # The first new token is the best after one ordinary forward pass with the same prefix.
    output = causal.apply(params, {**batch, "decoder_prefix": batch["decoder_segments"]})
    last = batch["decoder_segments"].sum(axis=1) - 1
    logits = output.readout.logits(output.hidden)[np.arange(ROWS), last]
    np.testing.assert_array_equal(whole.tokens[:, 0], jnp.argmax(logits, axis=-1))


def test_bad_arguments_are_refused(seq2seq):
    with pytest.raises(ValueError, match="beams is 0"):
        decoding.Search(length=4, beams=0)
    many = decoding.Search(length=4, beams=VOCABULARY)
    with pytest.raises(ValueError, match="use fewer beams"):
        decoding.decode(seq2seq, _random(seq2seq), _ragged("encoder"), search=many)
    learned = stack.Stack(**{**T5, "positions": "learned", "max_positions": 8})
    short = encdec.EncoderDecoder(encoder=learned, decoder=learned, vocabulary=VOCABULARY)
    with pytest.raises(ValueError, match="table has 8"):
        decoding.decode(short, jax.eval_shape(lambda: {}), {}, search=decoding.Search(length=9))
