"""GPT-2 (Radford et al. 2019)."""

from collections.abc import Callable
from typing import Any

from models import decoder, initial, stack
from models.families import rules
from models.families.fields import ACTIVATIONS, WRITTEN, Fields

TYPES = ("gpt2",)


def read(fields: Fields, has: Callable[[str], bool], same: Callable[[str, str], bool]) -> Any:
    """The model of a configuration; `has` and `same` look at the checkpoint's tensors."""
    del has, same
    fields.architecture({"GPT2LMHeadModel": True}, "GPT2LMHeadModel")
    width = fields.need("n_embd")
    dropout = float(fields.take("resid_pdrop", 0.1))
    deviation = float(fields.take("initializer_range", 0.02))
    if (rate := fields.take("embd_pdrop", 0.1)) != dropout:
        raise ValueError(
            f"{fields.where}: embd_pdrop = {rate!r} is not supported, only that of resid_pdrop, {dropout!r}"
        )
    body = stack.Stack(
        layers=fields.need("n_layer"),
        width=width,
        heads=fields.need("n_head"),
        mlp=fields.take("n_inner", 4 * width),
        activation=fields.one_of("activation_function", ACTIVATIONS, "gelu_new"),
        norm_eps=float(fields.take("layer_norm_epsilon", 1e-5)),
        max_positions=fields.take("n_positions", 1024),
        dropout=dropout,
        attention_dropout=float(fields.take("attn_pdrop", 0.1)),
        init=initial.Initial(std=deviation, embedding=deviation, depth_scaled=True),
    )
    fields.only("scale_attn_weights", True)
    fields.only("scale_attn_by_inverse_layer_idx", False)
    fields.only("add_cross_attention", False)
    fields.take("reorder_and_upcast_attn", False)  # changes the order of roundings alone
    made = decoder.Decoder(
        stack=body, vocabulary=fields.need("vocab_size"), tied=bool(fields.take("tie_word_embeddings", True))
    )
    fields.done()
    return made


def write(model: decoder.Decoder, kind: str) -> dict[str, Any]:
    """The configuration of a model, as far as this family has options for it."""
    del kind
    body = model.stack
    return {
        "architectures": ["GPT2LMHeadModel"],
        "vocab_size": model.vocabulary,
        "n_embd": body.width,
        "n_layer": body.layers,
        "n_head": body.heads,
        "n_inner": body.mlp,
        "n_positions": body.max_positions,
        "activation_function": WRITTEN[body.activation],
        "layer_norm_epsilon": body.norm_eps,
        "resid_pdrop": body.dropout,
        "embd_pdrop": body.dropout,
        "attn_pdrop": body.attention_dropout,
        "initializer_range": body.init.std,
        "tie_word_embeddings": model.tied,
    }


def names(model: decoder.Decoder, kind: str) -> rules.Map:
    """The name map; one tensor holds queries, keys and values."""
    del kind
    layer, here = f"transformer.h.{rules.LAYER}", "decoder/layers"
    fused = f"{layer}.attn.c_attn"
    made = []
    for part, name in enumerate(("query", "key", "value")):
        path = f"{here}/self_attention/{name}"
        kernel = rules.Rule(ours=f"{path}/kernel", theirs=f"{fused}.weight", inputs=1, turned=True, part=part, parts=3)
        made += [kernel, rules.Rule(ours=f"{path}/bias", theirs=f"{fused}.bias", flat=True, part=part, parts=3)]
    made += rules.dense(f"{here}/self_attention/out", f"{layer}.attn.c_proj", inputs=2, turned=True)
    made += rules.dense(f"{here}/mlp/wi", f"{layer}.mlp.c_fc", turned=True)
    made += rules.dense(f"{here}/mlp/wo", f"{layer}.mlp.c_proj", turned=True)
    made += rules.norm(f"{here}/self_attention_norm", f"{layer}.ln_1", bias=True)
    made += rules.norm(f"{here}/mlp_norm", f"{layer}.ln_2", bias=True)
    made += rules.norm("decoder/final_norm", "transformer.ln_f", bias=True)
    made.append(rules.table("token_embedder", "transformer.wte.weight"))
    made.append(rules.table("decoder/position_embedder", "transformer.wpe.weight"))
    copies = {"lm_head.weight": "transformer.wte.weight"} if model.tied else {}
    if not model.tied:
        made.append(rules.Rule(ours="logits/kernel", theirs="lm_head.weight"))
    return rules.Map(rules=tuple(made), copies=copies, ignored=(r".*\.attn\.(masked_)?bias",), prefix="transformer.")
