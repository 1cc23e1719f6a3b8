"""ELECTRA (arXiv:2003.10555): its discriminator, its generator, or the bare encoder."""

from collections.abc import Callable
from typing import Any

from models import encoder, heads
from models.families import bert, rules
from models.families.fields import ACTIVATIONS, Fields

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
    narrow = fields.take("embedding_size", 128)
    body = bert.body_of(fields, activation, embedding_width=None if narrow == fields.values["hidden_size"] else narrow)
    size = fields.need("vocab_size")
    fields.done()
    return encoder.Encoder(stack=body, vocabulary=size, head=head)


def write(model: encoder.Encoder, kind: str) -> dict[str, Any]:
    """The configuration of a model, as far as this family has options for it."""
    del kind
    name = {heads.ReplacedToken: "ForPreTraining", heads.MaskedLM: "ForMaskedLM", type(None): "Model"}[type(model.head)]
    return {"architectures": [f"Electra{name}"], "embedding_size": model.stack.table_width} | bert.written(model)


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
