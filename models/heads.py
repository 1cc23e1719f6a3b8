"""What stands on an encoder: masked LM, token and sequence classification, replaced-token detection, or two of them.

Each head is a small configuration, and builds its Flax module; `output` is the field of `model.Output` that it fills.
Shapes: B batch, L length, M targets, D width.
"""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jax.nn import initializers

from models import costs, initial, layers, model, readout, stack

POOLS = ("first", "mean")
POOLERS = ("none", "tanh", *stack.ACTIVATIONS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskedLM:
    """Prediction of tokens at `target_positions` (BERT, arXiv:1810.04805).

    dense  a dense layer, `activation` and a norm before the output; without, the states go out bare.
    dense_bias  a bias on that layer.
    tied   the output's kernel is the token embedding; otherwise a free one, logits/kernel.
    bias   a bias over the vocabulary.
    """

    name: ClassVar[str] = "mlm_head"
    output: ClassVar[str] = "readout"

    dense: bool = True
    dense_bias: bool = True
    activation: str = "gelu"
    tied: bool = True
    bias: bool = True

    def __post_init__(self):
        _check(self, "activation", self.activation, stack.ACTIVATIONS)

    def cost(self, config: stack.Stack, vocabulary: int, rows: int, predicted: int) -> costs.Cost:
        """Cost at `predicted` places of each of `rows` rows."""
        width, paths = config.width, f"{self.name}/.*|" + ("token_embedder/.*" if self.tied else "logits/.*")
        narrow = config.table_width
        return costs.output(paths, rows * predicted, (width, narrow * self.dense), (narrow, vocabulary))

    def build(self, config: stack.Stack, vocabulary: int, dtype: jnp.dtype) -> nn.Module:
        """The module, from states, batch and the readout to an output."""
        return _MaskedLM(self, config, vocabulary, dtype)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenClassification:
    """One of `classes` labels for each token: dropout, then a linear layer."""

    name: ClassVar[str] = "token_head"
    output: ClassVar[str] = "logits"
    tied: ClassVar[bool] = True

    classes: int
    dropout: float = 0.1

    def __post_init__(self):
        _check_classes(self, self.classes)

    def cost(self, config: stack.Stack, vocabulary: int, rows: int, predicted: int) -> costs.Cost:
        """Cost at `predicted` places of each of `rows` rows."""
        width = config.width
        return costs.output(f"{self.name}/.*", rows * predicted, (width, self.classes))

    def build(self, config: stack.Stack, vocabulary: int, dtype: jnp.dtype) -> nn.Module:
        """The module, from states, batch and the readout to an output."""
        return _TokenClassification(self, config, dtype)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SequenceClassification:
    """One of `classes` labels for a row that holds one sequence.

    pool    "first" takes the first state, "mean" the mean of those that are not padding.
    pooler  a dense layer with this activation on the pooled state ("tanh" is BERT's), or "none".
    """

    name: ClassVar[str] = "sequence_head"
    output: ClassVar[str] = "logits"
    tied: ClassVar[bool] = True

    classes: int
    pool: str = "first"
    pooler: str = "tanh"
    dropout: float = 0.1

    def __post_init__(self):
        _check_classes(self, self.classes)
        _check(self, "pool", self.pool, POOLS)
        _check(self, "pooler", self.pooler, POOLERS)

    def cost(self, config: stack.Stack, vocabulary: int, rows: int, predicted: int) -> costs.Cost:
        """Cost once for each of `rows` rows."""
        width = config.width
        return costs.output(f"{self.name}/.*", rows, (width, width * (self.pooler != "none")), (width, self.classes))

    def build(self, config: stack.Stack, vocabulary: int, dtype: jnp.dtype) -> nn.Module:
        """The module, from states, batch and the readout to an output."""
        return _SequenceClassification(self, config, dtype)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReplacedToken:
    """One logit for each token, positive where it was replaced (ELECTRA, arXiv:2003.10555).

    dense  a dense layer with `activation` before the output, as in ELECTRA; COCO-LM has none.
    """

    name: ClassVar[str] = "rtd_head"
    output: ClassVar[str] = "logits"
    tied: ClassVar[bool] = True

    dense: bool = True
    activation: str = "gelu"

    def __post_init__(self):
        _check(self, "activation", self.activation, stack.ACTIVATIONS)

    def cost(self, config: stack.Stack, vocabulary: int, rows: int, predicted: int) -> costs.Cost:
        """Cost at `predicted` places of each of `rows` rows."""
        width = config.width
        return costs.output(f"{self.name}/.*", rows * predicted, (width, width * self.dense), (width, 1))

    def build(self, config: stack.Stack, vocabulary: int, dtype: jnp.dtype) -> nn.Module:
        """The module, from states, batch and the readout to an output."""
        return _ReplacedToken(self, config, dtype)


def _check(head, field: str, value: str, known: tuple[str, ...]):
    if value not in known:
        raise ValueError(f"{type(head).__name__}: {field} {value!r} is unknown; choose one of {', '.join(known)}")


def _check_classes(head, classes: int):
    if classes < 2:
        raise ValueError(f"{type(head).__name__}: classes is {classes}; give at least 2")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RestoreAndDetect:
    """Two heads on one encoder: the original tokens at the targets, and replaced tokens everywhere (METRO, COCO-LM).

    The defaults are COCO-LM's (arXiv:2102.08473): the states go bare into the tied output, and detection is one linear
    layer. Parameters are named as those of either head alone.
    """

    name: ClassVar[str] = "restore_and_detect"

    restore: MaskedLM = MaskedLM(dense=False)
    detect: ReplacedToken = ReplacedToken(dense=False)

    @property
    def tied(self) -> bool:
        """As `restore`."""
        return self.restore.tied


Single = MaskedLM | TokenClassification | SequenceClassification | ReplacedToken
Head = Single | RestoreAndDetect


def single(head: Head | None) -> tuple[Single, ...]:
    """The heads that `head` consists of, none, one or two."""
    if head is None:
        return ()
    return (head.restore, head.detect) if isinstance(head, RestoreAndDetect) else (head,)


def _dense(config: stack.Stack, dtype: jnp.dtype, outputs: int | None = None, bias: bool = True) -> layers.Dense:
    """A dense layer from the stack's width to the same width, or to `outputs`."""
    shape, std = (config.width, outputs or config.width), config.init.kernel(config.width)
    return layers.Dense(shape, ("embed", "norm"), std, dtype, bias=bias, name="dense")


def _linear(config: stack.Stack, outputs: int) -> layers.Dense:
    """The output layer: float32, as the loss is."""
    shape, axes = (config.width, outputs), ("embed", "classes")
    return layers.Dense(shape, axes, config.init.kernel(config.width), jnp.dtype("float32"), bias=True, name="out")


class _MaskedLM(nn.Module):
    head: MaskedLM
    config: stack.Stack
    vocabulary: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, hidden: Array, batch, output: readout.Readout) -> model.Output:
        c, hidden = self.config, model.at_targets(hidden, batch)
        if self.head.dense:
            hidden = layers.activate(
                self.head.activation, _dense(c, self.dtype, c.table_width, self.head.dense_bias)(hidden)
            )
            hidden = layers.Norm(self.config, self.dtype, name="norm")(hidden)
        bias = None
        if self.head.bias:
            bias = initial.parameter(self, "bias", (self.vocabulary,), ("vocab",), initializers.zeros)
        return model.Output(hidden=hidden, readout=dataclasses.replace(output, bias=bias))


class _TokenClassification(nn.Module):
    head: TokenClassification
    config: stack.Stack
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, hidden: Array, batch, output: readout.Readout) -> model.Output:
        dropped = layers.Dropout(self.head.dropout, name="dropout")(hidden)
        logits = _linear(self.config, self.head.classes)(dropped.astype(jnp.float32))
        return model.Output(hidden=hidden, logits=logits)


class _SequenceClassification(nn.Module):
    head: SequenceClassification
    config: stack.Stack
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, hidden: Array, batch, output: readout.Readout) -> model.Output:
        if self.head.pool == "first":
            pooled = hidden[:, 0]
        else:
            real = (batch["encoder_segments"] != 0).astype(jnp.float32)
            share = real / jnp.maximum(jnp.sum(real, axis=1, keepdims=True), 1)
            pooled = jnp.einsum("bl,bld->bd", share, hidden.astype(jnp.float32)).astype(self.dtype)
        x = pooled
        if self.head.pooler != "none":
            x = _dense(self.config, self.dtype)(x)
            x = jnp.tanh(x) if self.head.pooler == "tanh" else layers.activate(self.head.pooler, x)
        x = layers.Dropout(self.head.dropout, name="dropout")(x)
        logits = _linear(self.config, self.head.classes)(x.astype(jnp.float32))
        return model.Output(hidden=pooled[:, None], logits=logits)


class _ReplacedToken(nn.Module):
    head: ReplacedToken
    config: stack.Stack
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, hidden: Array, batch, output: readout.Readout) -> model.Output:
        x = hidden
        if self.head.dense:
            x = layers.activate(self.head.activation, _dense(self.config, self.dtype)(x))
        logits = _linear(self.config, 1)(x.astype(jnp.float32))
        return model.Output(hidden=hidden, logits=logits[..., 0])
