"""BART (arXiv:1910.13461) and mBART (2001.08210)."""

import math
from collections.abc import Callable
from typing import Any

from models import encdec, initial, stack
from models.families import rules
from models.families.fields import ACTIVATIONS, WRITTEN, Fields

TYPES = ("bart", "mbart")
_CLASSES = {"bart": "BartForConditionalGeneration", "mbart": "MBartForConditionalGeneration"}
OFFSET = 2
"""Rows of the position tables before the first position's, which fairseq reserved for padding."""


def read(fields: Fields, has: Callable[[str], bool], same: Callable[[str, str], bool]) -> Any:
    """The model of a configuration; `has` and `same` look at the checkpoint's tensors."""
    del has, same
    kind = fields.values["model_type"]
    fields.architecture({_CLASSES[kind]: True}, _CLASSES[kind])
    width, deviation = fields.need("d_model"), float(fields.take("init_std", 0.02))
    for name, allowed in (("encoder_layerdrop", 0.0), ("decoder_layerdrop", 0.0), ("is_decoder", False)):
        fields.only(name, allowed)
    for name, allowed in (("normalize_embedding", True), ("normalize_before", kind == "mbart")):
        fields.only(name, allowed)
    fields.only("add_final_layer_norm", kind == "mbart")
    fields.only("static_position_embeddings", False)
    for spare in ("num_hidden_layers", "extra_pos_embeddings", "force_bos_token_to_be_generated"):
        fields.take(spare, None)
    shared = {
        "activation": fields.one_of("activation_function", ACTIVATIONS, "gelu"),
        "norm_position": "pre" if kind == "mbart" else "post",
        "norm_eps": 1e-5,
        "embedding_norm": True,
        "max_positions": fields.take("max_position_embeddings", 1024),
        "position_offset": OFFSET,
        "embedding_scale": math.sqrt(width) if fields.take("scale_embedding", False) else 1.0,
        "dropout": float(fields.take("dropout", 0.1)),
        "attention_dropout": float(fields.take("attention_dropout", 0.0)),
        "mlp_dropout": float(fields.take("activation_dropout", 0.0)),
        "init": initial.Initial(std=deviation, embedding=deviation),
    }
    encoder, decoder = (
        stack.Stack(
            layers=fields.need(f"{side}_layers"),
            width=width,
            heads=fields.need(f"{side}_attention_heads"),
            mlp=fields.need(f"{side}_ffn_dim"),
            **shared,
        )
        for side in ("encoder", "decoder")
    )
    tied, size = bool(fields.take("tie_word_embeddings", True)), fields.need("vocab_size")
    if not tied:
        raise ValueError(f"{fields.where}: tie_word_embeddings = False is not supported, only True")
    fields.done()
    return encdec.EncoderDecoder(encoder=encoder, decoder=decoder, vocabulary=size, output_bias=True)


def write(model: encdec.EncoderDecoder, kind: str) -> dict[str, Any]:
    """The configuration of a model, as far as this family has options for it."""
    side = model.encoder
    values: dict[str, Any] = {
        "architectures": [_CLASSES[kind]],
        "vocab_size": model.vocabulary,
        "d_model": side.width,
        "activation_function": WRITTEN[side.activation],
        "max_position_embeddings": side.max_positions,
        "scale_embedding": side.embedding_scale != 1,
        "dropout": side.dropout,
        "attention_dropout": side.attention_dropout,
        "activation_dropout": side.mlp_dropout,
        "init_std": side.init.std,
        "is_encoder_decoder": True,
    }
    for name, config in (("encoder", model.encoder), ("decoder", model.decoder)):
        values |= {f"{name}_layers": config.layers, f"{name}_attention_heads": config.heads}
        values[f"{name}_ffn_dim"] = config.mlp
    return values


def names(model: encdec.EncoderDecoder, kind: str) -> rules.Map:
    """The name map."""
    del kind
    made = [
        rules.table("token_embedder", "model.shared.weight"),
        rules.Rule(ours="logits/bias", theirs="final_logits_bias", row=True),
    ]
    copies = {"lm_head.weight": "model.shared.weight"}
    for side, config in (("encoder", model.encoder), ("decoder", model.decoder)):
        layer, here = f"model.{side}.layers.{rules.LAYER}", f"{side}/layers"
        projections = [f"{part}_proj" for part in ("q", "k", "v", "out")]
        made += rules.attention(
            f"{here}/self_attention", [f"{layer}.self_attn.{one}" for one in projections], bias=True
        )
        made += rules.norm(f"{here}/self_attention_norm", f"{layer}.self_attn_layer_norm", bias=True)
        if side == "decoder":
            cross = [f"{layer}.encoder_attn.{one}" for one in projections]
            made += rules.attention(f"{here}/cross_attention", cross, bias=True)
            made += rules.norm(f"{here}/cross_attention_norm", f"{layer}.encoder_attn_layer_norm", bias=True)
        made += rules.dense(f"{here}/mlp/wi", f"{layer}.fc1") + rules.dense(f"{here}/mlp/wo", f"{layer}.fc2")
        made += rules.norm(f"{here}/mlp_norm", f"{layer}.final_layer_norm", bias=True)
        made.append(rules.table(f"{side}/position_embedder", f"model.{side}.embed_positions.weight"))
        made += rules.norm(f"{side}/embedding_norm", f"model.{side}.layernorm_embedding", bias=True)
        if config.closing_norm:
            made += rules.norm(f"{side}/final_norm", f"model.{side}.layer_norm", bias=True)
        copies[f"model.{side}.embed_tokens.weight"] = "model.shared.weight"
    return rules.Map(rules=tuple(made), copies=copies)
