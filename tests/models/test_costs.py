import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import costs, decoder, encdec, encoder, heads, stack

OPTIMIZED = True
PLAIN = stack.Stack(layers=2, width=128, heads=4, mlp=256, activation="relu", attention_bias=False, mlp_bias=False)


def _by_name(parts):
    return {part.name: part for part in parts}


def test_an_encoder_counted_by_hand():
    model = encoder.Encoder(stack=PLAIN, vocabulary=1000, head=heads.MaskedLM())
    parts = _by_name(model.costs(rows=3, inputs=50, targets=0, predicted=7))
    params = 4 * 128 * 128 + 2 * 128 * 256
    layer = 2 * 3 * 50 * params + 2 * (2 * 3 * 50 * 50 * 128)
    assert parts["encoder"].forward_flops == 2 * layer
    assert (parts["encoder"].layers, parts["encoder"].layer_matmul_params) == (2, params)
    assert parts["output"].forward_flops == 2 * 3 * 7 * (128 * 128 + 128 * 1000)
    assert parts["encoder_embeddings"].forward_flops == 0
    assert [parts[name].layers for name in ("encoder_embeddings", "output")] == [0, 0]


def test_a_gated_decoder_with_few_key_heads_counted_by_hand():
    config = dataclasses.replace(PLAIN, gated=True, heads=8, kv_heads=2, head_dim=24)
    parts = _by_name(decoder.Decoder(stack=config, vocabulary=1000).costs(rows=3, inputs=50, targets=50, predicted=50))
    params = 128 * 24 * (8 + 2 + 2 + 8) + 3 * 128 * 256
    pairs = 3 * 50 * 50 / 2
    assert parts["decoder"].forward_flops == 2 * (2 * 150 * params + 4 * pairs * 8 * 24)
    assert parts["output"].forward_flops == 2 * 150 * 128 * 1000


def test_an_encoder_decoder_counted_by_hand():
    model = encdec.EncoderDecoder(encoder=PLAIN, decoder=dataclasses.replace(PLAIN, layers=1), vocabulary=1000)
    costed = model.costs(rows=3, inputs=50, targets=20, predicted=20)
    assert [part.name for part in costed] == [
        "encoder_embeddings",
        "encoder",
        "decoder_embeddings",
        "decoder",
        "output",
    ]
    params = 4 * 128 * 128 + 2 * 128 * 256
    own = 2 * 3 * 20 * params + 4 * 3 * 20 * 20 / 2 * 128
    cross = 2 * 3 * (20 * 2 + 50 * 2) * 128 * 128 + 4 * 3 * 20 * 50 * 128
    assert _by_name(costed)["decoder"].forward_flops == own + cross
    assert _by_name(costed)["decoder"].layer_matmul_params == params, "cross-attention is left out of the unit"
    fused = dataclasses.replace(model, fusion=True).costs(rows=3, inputs=50, targets=20, predicted=20)
    assert _by_name(fused)["decoder"].forward_flops - own - cross == 2 * 3 * 3 * 50 * 128


@pytest.mark.parametrize(
    "name", ["bert", "metro", "labels", "sentences", "free_mlm", "gpt2", "llama", "t5", "bart", "fused"]
)
def test_every_parameter_belongs_to_a_part_and_every_alternative_is_used(tiny, name):
    model = tiny[name]
    parts = model.costs(rows=1, inputs=2, targets=2, predicted=2)
    for path in model.abstract():
        assert any(re.fullmatch(part.prefix, path) for part in parts), path
    for part in parts[-1:]:
        assert any(re.fullmatch(part.prefix, path) for path in model.abstract()), part


@pytest.mark.parametrize("kind", ["encoder", "decoder", "encdec"])
def test_the_compiler_counts_the_same(kind, make_batch):
    """XLA counts causal attention whole, so that half is taken out of the comparison; and it counts elementwise work."""
    config = dataclasses.replace(PLAIN, positions="none", norm="rmsnorm", unroll=2)
    model = {
        "encoder": encoder.Encoder(stack=config, vocabulary=61, head=heads.MaskedLM(dense=False)),
        "decoder": decoder.Decoder(stack=config, vocabulary=61),
        "encdec": encdec.EncoderDecoder(encoder=config, decoder=config, vocabulary=61),
    }[kind]
    batch = make_batch(kind, rows=2, length=32, targets=24)
    params = {path: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for path, leaf in model.abstract().items()}

    def forward(params, batch):
        output = model.apply(params, batch)
        return output.readout.logits(output.hidden)

    counted = jax.jit(forward).lower(params, batch).compile().cost_analysis()["flops"]
    predicted = 3 if kind == "encoder" else 24
    ours = sum(part.forward_flops for part in model.costs(rows=2, inputs=32, targets=24, predicted=predicted))
    if kind != "encoder":
        ours += 2 * 4 * 2 * 24 * 24 / 2 * 128
    assert counted == pytest.approx(ours, rel=0.04)
    assert isinstance(ours, float) and np.isfinite(ours)
    assert jnp.dtype(model.dtype) == jnp.float32


def test_attention_params_of_one_layer_are_its_kernels(tiny):
    for name in ("bert", "llama", "t5"):
        model = tiny[name]
        config = model.encoder if name == "t5" else model.stack
        side = "decoder" if name == "llama" else "encoder"
        leaves = model.abstract()
        kernels = [p for p in leaves if re.fullmatch(f"{side}/layers/(self_attention|mlp)/.*/kernel", p)]
        assert sum(leaves[path].size for path in kernels) == config.layers * costs.layer_matmul_params(config)
