"""ELECTRA (arXiv:2003.10555): its discriminator, its generator, or the bare encoder."""

from collections.abc import Callable
from typing import Any

from models import encoder, heads, initial, stack
from models.families import rules
from models.families.fields import ACTIVATIONS, WRITTEN, Fields

TYPES = ("electra",)


def read(fields: Fields, has: Callable[[str], bool], same: Callable[[str, str], bool]) -> Any:
    """The model of a configuration; `has` and `same` look at the checkpoint's tensors."""
    del has, same
    tied = bool(fields.take("tie_word_embeddings", True))
    activation = fields.one_of("hidden_act", ACTIVATIONS, "gelu")
    # The generator's head has exact GELU whatever the layers have.
    head = fields.architecture(
        {
            "ElectraForPreTraining": heads.ReplacedToken(activation=activation),
            "ElectraForMaskedLM": heads.MaskedLM(activation="gelu", tied=tied),
            "ElectraModel": None,
        },
        "ElectraForPreTraining",
    )
    deviation = float(fields.take("initializer_range", 0.02))
    width, narrow = fields.need("hidden_size"), fields.take("embedding_size", 128)
    body = stack.Stack(
        layers=fields.need("num_hidden_layers"),
        width=width,
        heads=fields.need("num_attention_heads"),
        mlp=fields.need("intermediate_size"),
        activation=activation,
        norm_position="post",
        norm_eps=float(fields.take("layer_norm_eps", 1e-12)),
        embedding_norm=True,
        embedding_width=None if narrow == width else narrow,
        max_positions=fields.take("max_position_embeddings", 512),
        types=fields.take("type_vocab_size", 2),
        dropout=float(fields.take("hidden_dropout_prob", 0.1)),
        attention_dropout=float(fields.take("attention_probs_dropout_prob", 0.1)),
        init=initial.Initial(std=deviation, embedding=deviation),
    )
    fields.only("position_embedding_type", "absolute")
    fields.only("is_decoder", False)
    fields.only("add_cross_attention", False)
    size = fields.need("vocab_size")
    fields.done()
    return encoder.Encoder(stack=body, vocabulary=size, head=head)


def write(model: encoder.Encoder, kind: str) -> dict[str, Any]:
    """The configuration of a model, as far as this family has options for it."""
    del kind
    body = model.stack
    name = {heads.ReplacedToken: "ForPreTraining", heads.MaskedLM: "ForMaskedLM", type(None): "Model"}[type(model.head)]
    return {
        "architectures": [f"Electra{name}"],
        "vocab_size": model.vocabulary,
        "embedding_size": body.table_width,
        "hidden_size": body.width,
        "num_hidden_layers": body.layers,
        "num_attention_heads": body.heads,
        "intermediate_size": body.mlp,
        "hidden_act": WRITTEN[body.activation],
        "hidden_dropout_prob": body.dropout,
        "attention_probs_dropout_prob": body.attention_dropout,
        "max_position_embeddings": body.max_positions,
        "type_vocab_size": body.types,
        "layer_norm_eps": body.norm_eps,
        "initializer_range": body.init.std,
        "tie_word_embeddings": model.head is None or model.head.tied,
    }


def names(model: encoder.Encoder, kind: str) -> rules.Map:
    """The name map."""
    del kind
    layer, here, tables = f"electra.encoder.layer.{rules.LAYER}", "encoder/layers", "electra.embeddings"
    made = rules.bert_layers(layer, here)
    made += rules.bert_tables(tables)
    if model.stack.embedding_width is not None:
        made += rules.dense("encoder/embedding_projection", "electra.embeddings_project")
    copies: dict[str, str] = {}
    if isinstance(model.head, heads.MaskedLM):
        made += rules.dense("mlm_head/dense", "generator_predictions.dense")
        made += rules.norm("mlm_head/norm", "generator_predictions.LayerNorm", bias=True)
        made.append(rules.Rule(ours="mlm_head/bias", theirs="generator_lm_head.bias"))
        if model.head.tied:
            copies["generator_lm_head.weight"] = f"{tables}.word_embeddings.weight"
        else:
            made.append(rules.Rule(ours="logits/kernel", theirs="generator_lm_head.weight"))
    elif model.head is not None:
        made += rules.dense("rtd_head/dense", "discriminator_predictions.dense")
        made += rules.dense("rtd_head/out", "discriminator_predictions.dense_prediction")
    ignored = (r".*\.position_ids",) + ((r"(generator|discriminator)_.*",) if model.head is None else ())
    return rules.Map(rules=tuple(made), copies=copies, ignored=ignored, prefix="electra.")
