"""T5X checkpoints (arXiv:2203.17189) of T5 1.0, 1.1 and umT5: the model from the parameters' shapes, and their names.

Such a checkpoint has no configuration beside it. What its shapes do not say is T5's own: tanh GELU where the MLP is
gated and ReLU where it is not, 128 as the furthest distance, 1e-6 in the norms.
"""

import dataclasses
from collections.abc import Mapping

from models import encdec, initial, stack
from models.families import rules

_SIDES = {
    "encoder": ("attention", "pre_attention_layer_norm"),
    "decoder": ("self_attention", "pre_self_attention_layer_norm"),
}


def read(shapes: Mapping[str, tuple[int, ...]], where: str) -> encdec.EncoderDecoder:
    """The model of unscanned parameters, by path as `encoder/layers_0/attention/query/kernel`.

    Raises:
      ValueError: they are no T5's.
    """
    try:
        rows, width = shapes["token_embedder/embedding"]
        own = "encoder/relpos_bias/rel_embedding" not in shapes
        bias = "encoder/layers_0/relpos_bias/rel_embedding" if own else "encoder/relpos_bias/rel_embedding"
        heads, buckets = shapes[bias]
        inner = shapes["encoder/layers_0/attention/query/kernel"][1]
        gated = "encoder/layers_0/mlp/wi_0/kernel" in shapes
        mlp = shapes["encoder/layers_0/mlp/" + ("wi_0" if gated else "wi") + "/kernel"][1]
    except KeyError as error:
        raise ValueError(f"{where} has no parameter {error}: it is no T5 encoder-decoder of T5X") from None
    side = stack.Stack(
        layers=_layers(shapes, "encoder"),
        width=width,
        heads=heads,
        head_dim=inner // heads,
        mlp=mlp,
        activation="gelu_tanh" if gated else "relu",
        gated=gated,
        norm="rmsnorm",
        positions="relative_layers" if own else "relative",
        buckets=buckets,
        attention_bias=False,
        mlp_bias=False,
        scale_scores=False,
        init=initial.Initial(scheme="fan_in", std=1.0, embedding=1.0),
    )
    tied = "decoder/logits_dense/kernel" not in shapes
    return encdec.EncoderDecoder(
        encoder=side,
        decoder=dataclasses.replace(side, layers=_layers(shapes, "decoder")),
        vocabulary=rows,
        tied=tied,
        logit_scale="width" if tied else "none",
    )


def names(model: encdec.EncoderDecoder) -> rules.Map:
    """The name map; kernels are [inputs, outputs], tables of distances [heads, buckets]."""
    made = [rules.table("token_embedder", "token_embedder/embedding")]
    for side, config in (("encoder", model.encoder), ("decoder", model.decoder)):
        layer, here = f"{side}/layers_{rules.LAYER}", f"{side}/layers"
        attention, norm = _SIDES[side]
        parts = {"self_attention": (attention, norm)}
        if side == "decoder":
            parts["cross_attention"] = ("encoder_decoder_attention", "pre_cross_attention_layer_norm")
        for ours, (theirs, before) in parts.items():
            for part in ("query", "key", "value", "out"):
                made.append(_kernel(f"{here}/{ours}/{part}", f"{layer}/{theirs}/{part}", 2 if part == "out" else 1))
            made.append(rules.Rule(ours=f"{here}/{ours}_norm/scale", theirs=f"{layer}/{before}/scale"))
        mlp = {"wi_gate": "wi_0", "wi": "wi_1", "wo": "wo"} if config.gated else {"wi": "wi", "wo": "wo"}
        made += [_kernel(f"{here}/mlp/{ours}", f"{layer}/mlp/{theirs}", 1) for ours, theirs in mlp.items()]
        made.append(rules.Rule(ours=f"{here}/mlp_norm/scale", theirs=f"{layer}/pre_mlp_layer_norm/scale"))
        made.append(rules.Rule(ours=f"{side}/final_norm/scale", theirs=f"{side}/{side}_norm/scale"))
        own = config.positions == "relative_layers"
        table = (f"{here}/relative_bias", layer) if own else (f"{side}/relative_bias", side)
        turned = f"{table[1]}/relpos_bias/rel_embedding"
        made.append(rules.Rule(ours=f"{table[0]}/embedding", theirs=turned, inputs=1))
    if not model.tied:
        made.append(rules.Rule(ours="logits/kernel", theirs="decoder/logits_dense/kernel", inputs=1))
    return rules.Map(rules=tuple(made))


def _kernel(ours: str, theirs: str, inputs: int) -> rules.Rule:
    return rules.Rule(ours=f"{ours}/kernel", theirs=f"{theirs}/kernel", inputs=inputs, turned=True)


def _layers(shapes: Mapping[str, tuple[int, ...]], side: str) -> int:
    return len({name.split("/")[1] for name in shapes if name.startswith(f"{side}/layers_")})
