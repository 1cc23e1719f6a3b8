"""T5 1.0 and 1.1, mT5, umT5 (arXiv:1910.10683, 2010.11934, 2304.09151), and T5's encoder alone."""

import dataclasses
from collections.abc import Callable
from typing import Any

from models import encdec, encoder, initial, stack
from models.families import rules
from models.families.fields import ACTIVATIONS, WRITTEN, Fields

TYPES = ("t5", "mt5", "umt5")
_CLASSES = {"t5": "T5", "mt5": "MT5", "umt5": "UMT5"}


def read(fields: Fields, has: Callable[[str], bool], same: Callable[[str, str], bool]) -> Any:
    """The model of a configuration; `has` and `same` look at the checkpoint's tensors."""
    kind = fields.values["model_type"]
    whole = fields.architecture(
        {f"{_CLASSES[kind]}ForConditionalGeneration": True, f"{_CLASSES[kind]}EncoderModel": False},
        f"{_CLASSES[kind]}ForConditionalGeneration",
    )
    rate = float(fields.take("dropout_rate", 0.1))
    projection = str(fields.take("feed_forward_proj", "relu" if kind == "t5" else "gated-gelu"))
    activation = projection.removeprefix("gated-")
    if activation not in ACTIVATIONS:
        raise ValueError(f"{fields.where}: feed_forward_proj = {projection!r} is not supported")
    # transformers takes "gated-gelu" for the tanh approximation, which is what T5 1.1 was trained with.
    activation = "gelu_tanh" if projection == "gated-gelu" else ACTIVATIONS[activation]
    for derived in ("is_gated_act", "dense_act_fn"):
        fields.take(derived, None)
    fields.take("n_positions", None)
    own = kind == "umt5"
    side = stack.Stack(
        layers=fields.need("num_layers"),
        width=fields.need("d_model"),
        heads=fields.need("num_heads"),
        head_dim=fields.need("d_kv"),
        mlp=fields.need("d_ff"),
        activation=activation,
        gated=projection.startswith("gated-"),
        norm="rmsnorm",
        norm_eps=float(fields.take("layer_norm_epsilon", 1e-6)),
        positions="relative_layers" if own else "relative",
        buckets=fields.take("relative_attention_num_buckets", 32),
        max_distance=fields.take("relative_attention_max_distance", 128),
        attention_bias=False,
        mlp_bias=False,
        scale_scores=False,
        dropout=rate,
        mlp_dropout=rate,
        attention_dropout=rate,
        init=initial.Initial(scheme="fan_in", std=1.0, embedding=1.0),
    )
    size, layers = fields.need("vocab_size"), fields.take("num_decoder_layers", side.layers)
    tie = fields.take("tie_word_embeddings", kind != "mt5")
    # transformers 5 writes tie_word_embeddings = true always, and here whether T5's outputs are scaled.
    scaled = fields.take("scale_decoder_outputs", tie) if kind == "t5" else tie and own
    fields.only("is_decoder", False)
    fields.done()
    if not whole:
        return encoder.Encoder(stack=side, vocabulary=size)
    free = has("lm_head.weight") and not (tie and same("lm_head.weight", "shared.weight"))
    return encdec.EncoderDecoder(
        encoder=side,
        decoder=dataclasses.replace(side, layers=layers),
        vocabulary=size,
        tied=not free,
        logit_scale="width" if scaled else "none",
    )


def write(model: Any, kind: str) -> dict[str, Any]:
    """The configuration of a model, as far as this family has options for it."""
    side = model.encoder if isinstance(model, encdec.EncoderDecoder) else model.stack
    whole = isinstance(model, encdec.EncoderDecoder)
    activation = "gelu" if side.gated and side.activation == "gelu_tanh" else WRITTEN[side.activation]
    values = {
        "architectures": [_CLASSES[kind] + ("ForConditionalGeneration" if whole else "EncoderModel")],
        "vocab_size": model.vocabulary,
        "d_model": side.width,
        "d_kv": side.size,
        "d_ff": side.mlp,
        "num_layers": side.layers,
        "num_heads": side.heads,
        "relative_attention_num_buckets": side.buckets,
        "relative_attention_max_distance": side.max_distance,
        "dropout_rate": side.dropout,
        "layer_norm_epsilon": side.norm_eps,
        "feed_forward_proj": f"gated-{activation}" if side.gated else activation,
        "is_encoder_decoder": whole,
        "tie_word_embeddings": True,
    }
    if isinstance(model, encdec.EncoderDecoder):
        values["num_decoder_layers"] = model.decoder.layers
        values["tie_word_embeddings"] = model.logit_scale == "width" or (kind == "mt5" and model.tied)
    return values


def names(model: Any, kind: str) -> rules.Map:
    """The name map."""
    del kind
    whole = isinstance(model, encdec.EncoderDecoder)
    made = [rules.table("token_embedder", "shared.weight")]
    copies = {"encoder.embed_tokens.weight": "shared.weight"}
    sides = [("encoder", model.encoder), ("decoder", model.decoder)] if whole else [("encoder", model.stack)]
    for side, config in sides:
        block = f"{side}.block.{rules.LAYER}.layer"
        here = f"{side}/layers"
        made += rules.attention(
            f"{here}/self_attention", [f"{block}.0.SelfAttention.{part}" for part in "qkvo"], bias=False
        )
        made += rules.norm(f"{here}/self_attention_norm", f"{block}.0.layer_norm", bias=False)
        last = 2 if side == "decoder" else 1
        if side == "decoder":
            cross = [f"{block}.1.EncDecAttention.{part}" for part in "qkvo"]
            made += rules.attention(f"{here}/cross_attention", cross, bias=False)
            made += rules.norm(f"{here}/cross_attention_norm", f"{block}.1.layer_norm", bias=False)
        mlp = {"wi_gate": "wi_0", "wi": "wi_1", "wo": "wo"} if config.gated else {"wi": "wi", "wo": "wo"}
        for ours, theirs in mlp.items():
            made += rules.dense(f"{here}/mlp/{ours}", f"{block}.{last}.DenseReluDense.{theirs}", bias=False)
        made += rules.norm(f"{here}/mlp_norm", f"{block}.{last}.layer_norm", bias=False)
        made += rules.norm(f"{side}/final_norm", f"{side}.final_layer_norm", bias=False)
        bias = "SelfAttention.relative_attention_bias.weight"
        if config.positions == "relative_layers":
            made.append(rules.table(f"{here}/relative_bias", f"{block}.0.{bias}"))
        else:
            made.append(rules.table(f"{side}/relative_bias", f"{side}.block.0.layer.0.{bias}"))
    if whole:
        copies["decoder.embed_tokens.weight"] = "shared.weight"
        if model.tied:
            copies["lm_head.weight"] = "shared.weight"
        else:
            made.append(rules.Rule(ours="logits/kernel", theirs="lm_head.weight"))
    # T5 1.0's files carry a cross-attention bias that no version of the code has ever read.
    ignored = (r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight",)
    return rules.Map(rules=tuple(made), copies=copies, ignored=ignored if whole else (*ignored, r"decoder\..*"))
