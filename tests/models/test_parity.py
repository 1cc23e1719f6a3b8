"""Logits equal to those of transformers, on tiny models with random weights of odd sizes, mapped by hand."""

import dataclasses

import jax
import numpy as np
import pytest

from models import decoder, encdec, encoder, heads

OPTIMIZED = True

torch = pytest.importorskip("torch", reason="parity is against transformers, which needs torch")
transformers = pytest.importorskip("transformers", reason="parity is against transformers")


@pytest.fixture
def weights():
    """(transformers model) -> (its weights by name as numpy, spread out so that no part is negligible)."""

    def spread(model):
        model.eval()
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in model.parameters():
                noise = torch.empty(parameter.shape).normal_(generator=generator) * 0.1
                parameter.add_(noise)
        return {name: value.detach().numpy() for name, value in model.state_dict().items()}

    return spread


def _stacked(layers, makers):
    """Leaves of a stack's layers: our path -> the array of each layer, as its maker gives it, stacked."""
    return {path: np.stack([make(i) for i in range(layers)]) for path, make in makers.items()}


def _linear(weights, prefix, path, name, shape, *, bias=True):
    """Makers of one projection: torch's [out, in] turned and cut into our kernel's shape, and its bias."""
    made = {f"{path}/kernel": lambda i: weights[f"{prefix.format(i)}.{name}.weight"].T.reshape(shape)}
    if bias:
        out = shape[-1:] if path.endswith(("out", "wo", "wi")) else shape[1:]
        made[f"{path}/bias"] = lambda i: weights[f"{prefix.format(i)}.{name}.bias"].reshape(out)
    return made


def _norm(weights, prefix, path, name, *, bias=True):
    made = {f"{path}/scale": lambda i: weights[f"{prefix.format(i)}.{name}.weight"]}
    if bias:
        made[f"{path}/bias"] = lambda i: weights[f"{prefix.format(i)}.{name}.bias"]
    return made


def _attention(weights, prefix, path, names, config, *, bias=True):
    d, h, g, c = config.width, config.heads, config.groups, config.size
    shapes = {"query": (d, h, c), "key": (d, g, c), "value": (d, g, c), "out": (h, c, d)}
    made = {}
    for (part, shape), name in zip(shapes.items(), names):
        made |= _linear(weights, prefix, f"{path}/{part}", name, shape, bias=bias)
    return made


def _check(model, params, batch, theirs, keep):
    """Same parameters in name and shape, and logits within 1e-4 where `keep` is true."""
    leaves = model.abstract()
    assert {path: value.shape for path, value in params.items()} == {path: leaf.shape for path, leaf in leaves.items()}
    output = jax.jit(model.apply)(params, batch)
    ours = np.asarray(output.readout.logits(output.hidden))
    assert np.abs(theirs[keep]).max() > 1
    np.testing.assert_allclose(ours[keep], theirs[keep], atol=1e-4)


def _ids(shape, seed):
    return np.random.default_rng(seed).integers(3, 61, shape, dtype=np.int32)


def _places(ids):
    return np.broadcast_to(np.arange(ids.shape[1], dtype=np.int32), ids.shape)


@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_t5(stacks, weights, version):
    tied = version == "1.0"
    hf = transformers.T5ForConditionalGeneration(
        transformers.T5Config(
            vocab_size=61,
            d_model=24,
            d_kv=10,
            d_ff=40,
            num_heads=4,
            num_layers=2,
            num_decoder_layers=3,
            relative_attention_num_buckets=8,
            relative_attention_max_distance=12,
            feed_forward_proj="relu" if tied else "gated-gelu",
            tie_word_embeddings=tied,
            decoder_start_token_id=0,
        )
    )
    w = weights(hf)
    stack = dataclasses.replace(stacks["t5"], **({"gated": False, "activation": "relu"} if tied else {}))
    model = encdec.EncoderDecoder(
        encoder=dataclasses.replace(stack, layers=2),
        decoder=stack,
        vocabulary=61,
        tied=tied,
        logit_scale="width" if tied else "none",
    )
    params = {"token_embedder/embedding": w["shared.weight"]}
    if not tied:
        params["logits/kernel"] = w["lm_head.weight"]
    for side, config in (("encoder", model.encoder), ("decoder", model.decoder)):
        block, last = side + ".block.{}.layer", "1" if side == "encoder" else "2"
        makers = _attention(w, f"{block}.0.SelfAttention", "self_attention", "qkvo", config, bias=False)
        makers |= _norm(w, f"{block}.0", "self_attention_norm", "layer_norm", bias=False)
        if side == "decoder":
            makers |= _attention(w, f"{block}.1.EncDecAttention", "cross_attention", "qkvo", config, bias=False)
            makers |= _norm(w, f"{block}.1", "cross_attention_norm", "layer_norm", bias=False)
        names = {"wi": "wi", "wo": "wo"} if tied else {"wi_gate": "wi_0", "wi": "wi_1", "wo": "wo"}
        for ours, theirs in names.items():
            shape = (40, 24) if ours == "wo" else (24, 40)
            makers |= _linear(w, f"{block}.{last}.DenseReluDense", f"mlp/{ours}", theirs, shape, bias=False)
        makers |= _norm(w, f"{block}.{last}", "mlp_norm", "layer_norm", bias=False)
        params |= {f"{side}/layers/{path}": v for path, v in _stacked(config.layers, makers).items()}
        params[f"{side}/final_norm/scale"] = w[f"{side}.final_layer_norm.weight"]
        bias = f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        params[f"{side}/relative_bias/embedding"] = w[bias]
    inputs, targets = _ids((2, 19), 0), _ids((2, 17), 1)
    real = np.ones((2, 19), np.int32)
    real[1, 11:] = 0
    batch = {
        "encoder_inputs": inputs,
        "encoder_segments": real,
        "encoder_positions": _places(inputs),
        "decoder_inputs": targets,
        "decoder_segments": np.ones_like(targets),
        "decoder_positions": _places(targets),
    }
    with torch.no_grad():
        theirs = hf(
            input_ids=torch.tensor(inputs).long(),
            attention_mask=torch.tensor(real),
            decoder_input_ids=torch.tensor(targets).long(),
        ).logits.numpy()
    _check(model, params, batch, theirs, np.ones((2, 17), bool))


def test_bert(stacks, weights):
    hf = transformers.BertForMaskedLM(
        transformers.BertConfig(
            vocab_size=61,
            hidden_size=24,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=40,
            max_position_embeddings=32,
        )
    )
    w = weights(hf)
    model = encoder.Encoder(stack=stacks["bert"], vocabulary=61, head=heads.MaskedLM())
    layer = "bert.encoder.layer.{}"
    names = ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"]
    makers = _attention(w, layer, "self_attention", names, model.stack)
    makers |= _norm(w, layer, "self_attention_norm", "attention.output.LayerNorm")
    makers |= _linear(w, layer, "mlp/wi", "intermediate.dense", (24, 40))
    makers |= _linear(w, layer, "mlp/wo", "output.dense", (40, 24))
    makers |= _norm(w, layer, "mlp_norm", "output.LayerNorm")
    params = {f"encoder/layers/{path}": v for path, v in _stacked(3, makers).items()}
    tables, head = "bert.embeddings.", "cls.predictions."
    params |= {
        "token_embedder/embedding": w[tables + "word_embeddings.weight"],
        "encoder/position_embedder/embedding": w[tables + "position_embeddings.weight"],
        "encoder/type_embedder/embedding": w[tables + "token_type_embeddings.weight"],
        "encoder/embedding_norm/scale": w[tables + "LayerNorm.weight"],
        "encoder/embedding_norm/bias": w[tables + "LayerNorm.bias"],
        "mlm_head/dense/kernel": w[head + "transform.dense.weight"].T,
        "mlm_head/dense/bias": w[head + "transform.dense.bias"],
        "mlm_head/norm/scale": w[head + "transform.LayerNorm.weight"],
        "mlm_head/norm/bias": w[head + "transform.LayerNorm.bias"],
        "mlm_head/bias": w[head + "bias"],
    }
    inputs, real = _ids((2, 9), 0), np.ones((2, 9), np.int32)
    real[1, 6:] = 0
    types = (np.arange(9)[None] >= 4).astype(np.int32) * real
    batch = {
        "encoder_inputs": inputs,
        "encoder_segments": real,
        "encoder_positions": _places(inputs),
        "encoder_types": types,
        "target_positions": _places(inputs),
    }
    with torch.no_grad():
        theirs = hf(
            input_ids=torch.tensor(inputs).long(),
            attention_mask=torch.tensor(real),
            token_type_ids=torch.tensor(types).long(),
        ).logits.numpy()
    _check(model, params, batch, theirs, real.astype(bool))


def test_gpt2(stacks, weights):
    hf = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=61, n_embd=24, n_layer=3, n_head=3, n_inner=40, n_positions=32)
    )
    w = weights(hf)
    model = decoder.Decoder(stack=stacks["gpt2"], vocabulary=61)

    def third(kind, i, index):
        return np.split(w[f"transformer.h.{i}.attn.c_attn.{kind}"], 3, axis=-1)[index]

    layer = "transformer.h.{}"
    makers = _norm(w, layer, "self_attention_norm", "ln_1") | _norm(w, layer, "mlp_norm", "ln_2")
    for index, part in enumerate(("query", "key", "value")):
        makers[f"self_attention/{part}/kernel"] = lambda i, n=index: third("weight", i, n).reshape(24, 3, 8)
        makers[f"self_attention/{part}/bias"] = lambda i, n=index: third("bias", i, n).reshape(3, 8)
    for path, name, shape in (
        ("self_attention/out", "attn.c_proj", (3, 8, 24)),
        ("mlp/wi", "mlp.c_fc", (24, 40)),
        ("mlp/wo", "mlp.c_proj", (40, 24)),
    ):
        makers[f"{path}/kernel"] = lambda i, n=name, s=shape: w[f"transformer.h.{i}.{n}.weight"].reshape(s)
        makers[f"{path}/bias"] = lambda i, n=name: w[f"transformer.h.{i}.{n}.bias"]
    params = {f"decoder/layers/{path}": v for path, v in _stacked(3, makers).items()}
    params |= {
        "token_embedder/embedding": w["transformer.wte.weight"],
        "decoder/position_embedder/embedding": w["transformer.wpe.weight"],
        "decoder/final_norm/scale": w["transformer.ln_f.weight"],
        "decoder/final_norm/bias": w["transformer.ln_f.bias"],
    }
    _check_decoder(model, params, hf)


def test_llama(stacks, weights):
    hf = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=61,
            hidden_size=24,
            intermediate_size=40,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
            rms_norm_eps=1e-6,
            tie_word_embeddings=False,
        )
    )
    w = weights(hf)
    model = decoder.Decoder(stack=stacks["llama"], vocabulary=61, tied=False)
    layer = "model.layers.{}"
    names = [f"self_attn.{part}_proj" for part in "qkvo"]
    makers = _attention(w, layer, "self_attention", names, model.stack, bias=False)
    makers |= _norm(w, layer, "self_attention_norm", "input_layernorm", bias=False)
    makers |= _norm(w, layer, "mlp_norm", "post_attention_layernorm", bias=False)
    for path, name, shape in (("wi_gate", "gate", (24, 40)), ("wi", "up", (24, 40)), ("wo", "down", (40, 24))):
        makers |= _linear(w, layer, f"mlp/{path}", f"mlp.{name}_proj", shape, bias=False)
    params = {f"decoder/layers/{path}": v for path, v in _stacked(3, makers).items()}
    params |= {
        "token_embedder/embedding": w["model.embed_tokens.weight"],
        "decoder/final_norm/scale": w["model.norm.weight"],
        "logits/kernel": w["lm_head.weight"],
    }
    _check_decoder(model, params, hf)


def _check_decoder(model, params, hf):
    inputs = _ids((2, 11), 0)
    batch = {
        "decoder_inputs": inputs,
        "decoder_segments": np.ones_like(inputs),
        "decoder_positions": _places(inputs),
    }
    with torch.no_grad():
        theirs = hf(input_ids=torch.tensor(inputs).long()).logits.numpy()
    _check(model, params, batch, theirs, np.ones((2, 11), bool))
