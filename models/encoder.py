"""Encoders: every token sees its whole segment (BERT, RoBERTa, ELECTRA ...)."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from models import costs as cost
from models import heads, layers, model, readout, trunk
from models import stack as stacks


@dataclasses.dataclass(frozen=True, kw_only=True)
class Encoder(model.Model):
    """A stack of bidirectional layers, and a head or None (states alone).

    A batch holds encoder_inputs, encoder_segments, encoder_positions [B, L], optionally encoder_types [B, L] (0 where
    absent), and what the head needs.
    """

    kind: ClassVar[str] = "encoder"

    stack: stacks.Stack
    head: heads.Head | None = None

    def __post_init__(self):
        super().__post_init__()
        narrow = self.stack.embedding_width
        bare = any(isinstance(head, heads.MaskedLM) and not head.dense for head in heads.single(self.head))
        if narrow not in (None, self.stack.width) and bare:
            raise ValueError(
                f"Encoder: the output reads states of the tables' width {narrow} and the stack's is "
                f"{self.stack.width}; give the MaskedLM head dense = True"
            )

    @property
    def outputs(self) -> tuple[str, ...]:
        """The fields of `Output` that its heads fill."""
        return tuple(head.output for head in heads.single(self.head))

    def module(self) -> nn.Module:
        """The Flax module, from a batch to an `Output`."""
        return _Encoder(self)

    def example(self) -> dict[str, Array]:
        """The smallest batch that reaches every parameter."""
        names = ("encoder_inputs", "encoder_segments", "encoder_positions", "target_positions")
        return dict.fromkeys(names, jnp.zeros((1, 2), jnp.int32))

    def costs(self, rows: int, inputs: int, targets: int, predicted: int) -> tuple[cost.Cost, ...]:
        """What a batch of `rows` x `inputs` places costs, with the head at `predicted` places a row.

        Replaced tokens are detected at all of them, whatever `predicted` is.
        """
        parts = (
            cost.embeddings("encoder", "token_embedder"),
            cost.stack("encoder", self.stack, rows, inputs, causal=False),
        )
        for head in heads.single(self.head):
            places = inputs if isinstance(head, heads.ReplacedToken) else predicted
            parts = (*parts, head.cost(self.stack, self.vocabulary, rows, places))
        return parts


class _Encoder(nn.Module):
    config: Encoder

    def setup(self):
        m, c = self.config, self.config.stack
        self.token_embedder = layers.Table(m.vocabulary, c.table_width, "vocab", c.init.embedding, m.compute)
        self.encoder = trunk.Trunk(c, m.compute)
        for head in heads.single(m.head):
            setattr(self, head.name, head.build(c, m.vocabulary, m.compute))
        if m.head is not None:
            self.logits = readout.Output(c, m.vocabulary, tied=m.head.tied, width=c.table_width)

    def __call__(self, batch: Mapping[str, Array]) -> model.Output:
        hidden, _ = self._read(batch)
        if self.config.head is None:
            return model.Output(hidden=hidden)
        output = self.logits(self.token_embedder.embedding)
        made = [getattr(self, head.name)(hidden, batch, output) for head in heads.single(self.config.head)]
        # Of two heads the first has the states at the targets and their readout, the second the logits.
        return dataclasses.replace(made[0], logits=made[-1].logits)

    def states(self, batch: Mapping[str, Array]) -> dict[str, Array]:
        return {"encoder": self._read(batch, "states")[1]} if "encoder_inputs" in batch else {}

    def _read(self, batch: Mapping[str, Array], collect: str = "nothing") -> Any:
        return self.encoder(
            self.token_embedder(batch["encoder_inputs"]),
            segments=batch["encoder_segments"],
            places=batch["encoder_positions"],
            types=batch.get("encoder_types"),
            collect=collect,
        )
