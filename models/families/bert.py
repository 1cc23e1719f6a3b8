"""BERT (arXiv:1810.04805), RoBERTa (1907.11692) and XLM-R (1911.02116): masked language models, or the bare encoder."""

from collections.abc import Callable
from typing import Any

from models import encoder, heads, initial, stack
from models.families import rules
from models.families.fields import ACTIVATIONS, WRITTEN, Fields

TYPES = ("bert", "roberta", "xlm-roberta")
_CLASSES = {"bert": "Bert", "roberta": "Roberta", "xlm-roberta": "XLMRoberta"}


def read(fields: Fields, has: Callable[[str], bool], same: Callable[[str, str], bool]) -> Any:
    """The model of a configuration; `has` and `same` look at the checkpoint's tensors."""
    del has, same
    kind = fields.values["model_type"]
    name = _CLASSES[kind]
    known = {f"{name}ForMaskedLM": True, f"{name}Model": False} | (
        {"BertForPreTraining": True} if kind == "bert" else {}
    )
    masked = fields.architecture(known, f"{name}ForMaskedLM")
    activation = fields.one_of("hidden_act", ACTIVATIONS, "gelu")
    # RoBERTa's first position stands after the one of padding in the table, whose rows before it serve nothing.
    offset = 0 if kind == "bert" else fields.take("pad_token_id", 1) + 1
    body = body_of(fields, activation, offset=offset)
    tied = bool(fields.take("tie_word_embeddings", True))
    size = fields.need("vocab_size")
    fields.done()
    # RoBERTa's head has exact GELU whatever the layers have.
    head = heads.MaskedLM(activation=activation if kind == "bert" else "gelu", tied=tied)
    return encoder.Encoder(stack=body, vocabulary=size, head=head if masked else None)


def body_of(fields: Fields, activation: str, *, offset: int = 0, embedding_width: int | None = None) -> stack.Stack:
    """The stack of BERT's configuration, which ELECTRA's has too; refuses what it asks for beyond that."""
    deviation = float(fields.take("initializer_range", 0.02))
    body = stack.Stack(
        layers=fields.need("num_hidden_layers"),
        width=fields.need("hidden_size"),
        heads=fields.need("num_attention_heads"),
        mlp=fields.need("intermediate_size"),
        activation=activation,
        norm_position="post",
        norm_eps=float(fields.take("layer_norm_eps", 1e-12)),
        embedding_norm=True,
        embedding_width=embedding_width,
        max_positions=fields.take("max_position_embeddings", 512) - offset,
        position_offset=offset,
        types=fields.take("type_vocab_size", 2),
        dropout=float(fields.take("hidden_dropout_prob", 0.1)),
        attention_dropout=float(fields.take("attention_probs_dropout_prob", 0.1)),
        init=initial.Initial(std=deviation, embedding=deviation),
    )
    fields.only("position_embedding_type", "absolute")
    fields.only("is_decoder", False)
    fields.only("add_cross_attention", False)
    return body


def written(model: encoder.Encoder) -> dict[str, Any]:
    """What `body_of` reads, of a model, with its vocabulary and whether its output is tied."""
    body = model.stack
    return {
        "vocab_size": model.vocabulary,
        "hidden_size": body.width,
        "num_hidden_layers": body.layers,
        "num_attention_heads": body.heads,
        "intermediate_size": body.mlp,
        "hidden_act": WRITTEN[body.activation],
        "hidden_dropout_prob": body.dropout,
        "attention_probs_dropout_prob": body.attention_dropout,
        "max_position_embeddings": body.max_positions + body.position_offset,
        "type_vocab_size": body.types,
        "layer_norm_eps": body.norm_eps,
        "initializer_range": body.init.std,
        "tie_word_embeddings": model.head is None or model.head.tied,
    }


def write(model: encoder.Encoder, kind: str) -> dict[str, Any]:
    """The configuration of a model, as far as this family has options for it."""
    names = [_CLASSES[kind] + ("Model" if model.head is None else "ForMaskedLM")]
    padding = {} if kind == "bert" else {"pad_token_id": model.stack.position_offset - 1}
    return {"architectures": names} | written(model) | padding


def names(model: encoder.Encoder, kind: str) -> rules.Map:
    """The name map."""
    short = "bert" if kind == "bert" else "roberta"
    layer, here = f"{short}.encoder.layer.{rules.LAYER}", "encoder/layers"
    tables = f"{short}.embeddings"
    made = [*rules.bert_layers(layer, here), *rules.bert_tables(tables)]
    copies: dict[str, str] = {}
    unread: dict[str, str] = {}
    if model.head is not None:
        out = "cls.predictions" if short == "bert" else "lm_head"
        dense, norm = ("transform.dense", "transform.LayerNorm") if short == "bert" else ("dense", "layer_norm")
        made += rules.dense("mlm_head/dense", f"{out}.{dense}")
        made += rules.norm("mlm_head/norm", f"{out}.{norm}", bias=True)
        # An untied output has a bias of its own, and leaves the head's unread.
        made.append(
            rules.Rule(ours="mlm_head/bias", theirs=f"{out}.bias" if model.head.tied else f"{out}.decoder.bias")
        )
        if model.head.tied:
            copies[f"{out}.decoder.bias"] = f"{out}.bias"
            copies[f"{out}.decoder.weight"] = f"{tables}.word_embeddings.weight"
        else:
            unread[f"{out}.bias"] = f"{out}.decoder.bias"
            made.append(rules.Rule(ours="logits/kernel", theirs=f"{out}.decoder.weight"))
    ignored = (r".*\.position_ids", r".*\.pooler\.dense\.(weight|bias)", r"cls\.seq_relationship\.(weight|bias)")
    if model.head is None:
        ignored = (*ignored, r"(cls|lm_head)\..*")
    return rules.Map(rules=tuple(made), copies=copies, unread=unread, ignored=ignored, prefix=f"{short}.")
