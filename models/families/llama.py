"""Llama 1 to 3 (arXiv:2302.13971, 2407.21783)."""

from collections.abc import Callable
from typing import Any

from models import decoder, initial, stack, stretch
from models.families import rules
from models.families.fields import ACTIVATIONS, WRITTEN, Fields

TYPES = ("llama",)


def read(fields: Fields, has: Callable[[str], bool], same: Callable[[str, str], bool]) -> Any:
    """The model of a configuration; `has` and `same` look at the checkpoint's tensors."""
    del has, same
    fields.architecture({"LlamaForCausalLM": True}, "LlamaForCausalLM")
    rope = dict(fields.take("rope_parameters", {}) or fields.take("rope_scaling", {}))
    fields.take("rope_scaling", None)
    base = rope.pop("rope_theta", None) or fields.take("rope_theta", 10000.0)
    fields.take("rope_theta", None)
    heads, attention_bias = fields.need("num_attention_heads"), bool(fields.take("attention_bias", False))
    deviation = float(fields.take("initializer_range", 0.02))
    body = stack.Stack(
        layers=fields.need("num_hidden_layers"),
        width=fields.need("hidden_size"),
        heads=heads,
        kv_heads=fields.take("num_key_value_heads", heads),
        head_dim=fields.take("head_dim", None),
        mlp=fields.need("intermediate_size"),
        activation=fields.one_of("hidden_act", ACTIVATIONS, "silu"),
        gated=True,
        norm="rmsnorm",
        norm_eps=float(fields.take("rms_norm_eps", 1e-6)),
        positions="rotary",
        rotary_base=float(base),
        rotary_scaling=_scaling(rope, fields),
        max_positions=fields.take("max_position_embeddings", 2048),
        attention_bias=attention_bias,
        mlp_bias=bool(fields.take("mlp_bias", False)),
        attention_dropout=float(fields.take("attention_dropout", 0.0)),
        init=initial.Initial(std=deviation, embedding=deviation),
    )
    tied = bool(fields.take("tie_word_embeddings", False))
    made = decoder.Decoder(stack=body, vocabulary=fields.need("vocab_size"), tied=tied)
    fields.done()
    return made


def _scaling(rope: dict[str, Any], fields: Fields) -> stretch.Llama3 | None:
    kind = rope.pop("rope_type", None) or rope.pop("type", None) or "default"
    rope.pop("type", None)
    if kind == "default":
        return None
    if kind != "llama3":
        raise ValueError(f"{fields.where}: rope_type = {kind!r} is not supported, only default and llama3")
    return stretch.Llama3(
        factor=float(rope["factor"]),
        low=float(rope["low_freq_factor"]),
        high=float(rope["high_freq_factor"]),
        original=int(rope["original_max_position_embeddings"]),
    )


def write(model: decoder.Decoder, kind: str) -> dict[str, Any]:
    """The configuration of a model, as far as this family has options for it."""
    del kind
    body, rope = model.stack, {"rope_type": "default", "rope_theta": model.stack.rotary_base}
    if body.rotary_scaling is not None:
        s = body.rotary_scaling
        rope |= {"rope_type": "llama3", "factor": s.factor, "low_freq_factor": s.low, "high_freq_factor": s.high}
        rope["original_max_position_embeddings"] = s.original
    return {
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": model.vocabulary,
        "hidden_size": body.width,
        "num_hidden_layers": body.layers,
        "num_attention_heads": body.heads,
        "num_key_value_heads": body.groups,
        "head_dim": body.size,
        "intermediate_size": body.mlp,
        "hidden_act": WRITTEN[body.activation],
        "rms_norm_eps": body.norm_eps,
        "max_position_embeddings": body.max_positions,
        "rope_parameters": rope,
        "rope_theta": body.rotary_base,
        "attention_bias": body.attention_bias,
        "mlp_bias": body.mlp_bias,
        "attention_dropout": body.attention_dropout,
        "initializer_range": body.init.std,
        "tie_word_embeddings": model.tied,
    }


def names(model: decoder.Decoder, kind: str) -> rules.Map:
    """The name map."""
    del kind
    layer, here, bias = f"model.layers.{rules.LAYER}", "decoder/layers", model.stack.attention_bias
    made = rules.attention(f"{here}/self_attention", [f"{layer}.self_attn.{p}_proj" for p in "qkvo"], bias=bias)
    for ours, theirs in (("wi_gate", "gate"), ("wi", "up"), ("wo", "down")):
        made += rules.dense(f"{here}/mlp/{ours}", f"{layer}.mlp.{theirs}_proj", bias=model.stack.mlp_bias)
    made += rules.norm(f"{here}/self_attention_norm", f"{layer}.input_layernorm", bias=False)
    made += rules.norm(f"{here}/mlp_norm", f"{layer}.post_attention_layernorm", bias=False)
    made += rules.norm("decoder/final_norm", "model.norm", bias=False)
    made.append(rules.table("token_embedder", "model.embed_tokens.weight"))
    if not model.tied:
        made.append(rules.Rule(ours="logits/kernel", theirs="lm_head.weight"))
    copies = {"lm_head.weight": "model.embed_tokens.weight"} if model.tied else {}
    return rules.Map(rules=tuple(made), copies=copies, ignored=(r".*\.rotary_emb\.inv_freq",))
