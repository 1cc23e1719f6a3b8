"""ModernBERT (arXiv:2412.13663): rotary, local and global attention by turns, gated, without biases."""

from collections.abc import Callable
from typing import Any

from models import encoder, heads, initial, stack
from models.families import rules
from models.families.fields import ACTIVATIONS, WRITTEN, Fields

TYPES = ("modernbert",)


def read(fields: Fields, has: Callable[[str], bool], same: Callable[[str, str], bool]) -> Any:
    """The model of a configuration; `has` and `same` look at the checkpoint's tensors."""
    del has, same
    masked = fields.architecture({"ModernBertForMaskedLM": True, "ModernBertModel": False}, "ModernBertForMaskedLM")
    layers, every = fields.need("num_hidden_layers"), fields.take("global_attn_every_n_layers", 3)
    types = fields.take("layer_types", None)
    if types is not None:
        whole = [i for i, kind in enumerate(types) if kind == "full_attention"]
        every = whole[1] if len(whole) > 1 else layers
        if [i for i in range(layers) if i % every == 0] != whole or len(types) != layers:
            raise ValueError(f"{fields.where}: layer_types = {types!r} is not supported, only every n-th layer full")
    rope = fields.take("rope_parameters", {})
    bases = {}
    for kind, old, default in (
        ("full_attention", "global_rope_theta", 160000.0),
        ("sliding_attention", "local_rope_theta", 10000.0),
    ):
        of = rope.get(kind) or {}
        if of.get("rope_type", "default") != "default":
            raise ValueError(f"{fields.where}: rope_type = {of['rope_type']!r} is not supported, only 'default'")
        bases[kind] = float(of.get("rope_theta", fields.take(old, default)))
    dropout = float(fields.take("mlp_dropout", 0.0))
    for name in ("attention_dropout", "embedding_dropout"):
        fields.only(name, 0.0)
    for name in ("norm_bias", "attention_bias", "mlp_bias"):
        fields.only(name, False)
    fields.only("decoder_bias", True)
    fields.only("position_embedding_type", "absolute")  # a word that old files have and no code reads
    for spare in ("initializer_cutoff_factor", "sparse_pred_ignore_index", "deterministic_flash_attn"):
        fields.take(spare, None)
    for spare in ("sparse_prediction", "reference_compile", "repad_logits_with_grad", "layer_norm_eps"):
        fields.take(spare, None)
    deviation = float(fields.take("initializer_range", 0.02))
    activation = fields.one_of("hidden_activation", ACTIVATIONS, "gelu")
    body = stack.Stack(
        layers=layers,
        width=fields.need("hidden_size"),
        heads=fields.need("num_attention_heads"),
        mlp=fields.need("intermediate_size"),
        activation=activation,
        gated=True,
        norm_eps=float(fields.take("norm_eps", 1e-5)),
        norm_bias=False,
        embedding_norm=True,
        first_norm=False,
        positions="rotary",
        max_positions=fields.take("max_position_embeddings", 8192),
        rotary_base=bases["full_attention"],
        local_rotary_base=bases["sliding_attention"],
        local=fields.take("local_attention", 128) // 2,
        global_every=every,
        attention_bias=False,
        mlp_bias=False,
        mlp_dropout=dropout,
        init=initial.Initial(std=deviation, embedding=deviation, depth_scaled=True),
    )
    tied, size = bool(fields.take("tie_word_embeddings", True)), fields.need("vocab_size")
    head = heads.MaskedLM(
        activation=fields.one_of("classifier_activation", ACTIVATIONS, "gelu"), tied=tied, dense_bias=False
    )
    fields.done()
    return encoder.Encoder(stack=body, vocabulary=size, head=head if masked else None)


def write(model: encoder.Encoder, kind: str) -> dict[str, Any]:
    """The configuration of a model, as far as this family has options for it."""
    del kind
    body, head = model.stack, model.head
    local = {"rope_type": "default", "rope_theta": body.local_rotary_base or body.rotary_base}
    return {
        "architectures": ["ModernBertModel" if head is None else "ModernBertForMaskedLM"],
        "vocab_size": model.vocabulary,
        "hidden_size": body.width,
        "num_hidden_layers": body.layers,
        "num_attention_heads": body.heads,
        "intermediate_size": body.mlp,
        "hidden_activation": WRITTEN[body.activation],
        "classifier_activation": "gelu" if head is None else WRITTEN[head.activation],  # pyright: ignore[reportAttributeAccessIssue]
        "max_position_embeddings": body.max_positions,
        "norm_eps": body.norm_eps,
        "local_attention": 2 * (body.local or 0),
        "global_attn_every_n_layers": body.global_every,
        "layer_types": ["sliding_attention" if i % body.global_every else "full_attention" for i in range(body.layers)],
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": body.rotary_base},
            "sliding_attention": local,
        },
        "mlp_dropout": body.mlp_dropout,
        "initializer_range": body.init.std,
        "tie_word_embeddings": head is None or head.tied,
    }


def names(model: encoder.Encoder, kind: str) -> rules.Map:
    """The name map; queries, keys and values are one tensor, so are the MLP's hidden layer and its gate."""
    del kind
    layer, here = f"model.layers.{rules.LAYER}", "encoder/layers"
    made = []
    for part, name in enumerate(("query", "key", "value")):
        path, theirs = f"{here}/self_attention/{name}/kernel", f"{layer}.attn.Wqkv.weight"
        made.append(rules.Rule(ours=path, theirs=theirs, inputs=1, part=part, parts=3))
    for part, name in enumerate(("wi_gate", "wi")):
        path, theirs = f"{here}/mlp/{name}/kernel", f"{layer}.mlp.Wi.weight"
        made.append(rules.Rule(ours=path, theirs=theirs, inputs=1, part=part, parts=2))
    made += rules.dense(f"{here}/self_attention/out", f"{layer}.attn.Wo", bias=False, inputs=2)
    made += rules.dense(f"{here}/mlp/wo", f"{layer}.mlp.Wo", bias=False)
    made += rules.norm(f"{here}/self_attention_norm", f"{layer}.attn_norm", bias=False, first=1)
    made += rules.norm(f"{here}/mlp_norm", f"{layer}.mlp_norm", bias=False)
    made += rules.norm("encoder/embedding_norm", "model.embeddings.norm", bias=False)
    made += rules.norm("encoder/final_norm", "model.final_norm", bias=False)
    made.append(rules.table("token_embedder", "model.embeddings.tok_embeddings.weight"))
    copies: dict[str, str] = {}
    if model.head is not None:
        made += rules.dense("mlm_head/dense", "head.dense", bias=False)
        made += rules.norm("mlm_head/norm", "head.norm", bias=False)
        made.append(rules.Rule(ours="mlm_head/bias", theirs="decoder.bias"))
        if model.head.tied:
            copies["decoder.weight"] = "model.embeddings.tok_embeddings.weight"
        else:
            made.append(rules.Rule(ours="logits/kernel", theirs="decoder.weight"))
    ignored = (r"(head|decoder)\..*",) if model.head is None else ()
    return rules.Map(rules=tuple(made), copies=copies, ignored=ignored, prefix="model.")
