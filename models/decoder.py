"""Decoders: every token sees itself and what precedes it (GPT-2, Llama ...), or the whole of a prefix too."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from models import cache, layers, model, readout, trunk
from models import costs as cost
from models import stack as stacks


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decoder(model.Model):
    """A stack of causal layers and an output over the vocabulary.

    A batch holds decoder_inputs, decoder_segments, decoder_positions [B, L], optionally decoder_prefix [B, L] (1 where
    the whole segment may look) and target_positions [B, M] (absent: all of them).
    `tied`: the output's kernel is the token embedding. `logit_scale` "width" multiplies logits by width ** -0.5.
    """

    kind: ClassVar[str] = "decoder"

    stack: stacks.Stack
    tied: bool = True
    output_bias: bool = False
    logit_scale: str = "none"

    def __post_init__(self):
        super().__post_init__()
        readout.check_scale(self.logit_scale, type(self).__name__)
        model.check_tables(type(self).__name__, self.stack)

    def module(self) -> nn.Module:
        """The Flax module, from a batch to an `Output`."""
        return _Decoder(self)

    def example(self) -> dict[str, Array]:
        """The smallest batch that reaches every parameter."""
        names = ("decoder_inputs", "decoder_segments", "decoder_positions")
        return dict.fromkeys(names, jnp.zeros((1, 2), jnp.int32))

    def costs(self, rows: int, inputs: int, targets: int, predicted: int) -> tuple[cost.Cost, ...]:
        """What a batch of `rows` x `targets` places costs, with the output at `predicted` places a row."""
        paths = "token_embedder/.*|logits/.*" if self.tied else "logits/.*"
        return (
            cost.embeddings("decoder", "token_embedder"),
            cost.stack("decoder", self.stack, rows, targets, causal=True),
            cost.output(paths, rows * predicted, (self.stack.width, self.vocabulary)),
        )

    def start_cache(self, params: Mapping[str, Array], batch_size: int, max_length: int) -> cache.Cache:
        """An empty cache for `batch_size` rows of up to `max_length` tokens; its batch axis is 1 in every leaf."""
        del params
        return cache.start(self.stack, self.compute, batch_size, max_length)

    def prefill(
        self, params: Mapping[str, Array], filled: cache.Cache, tokens: Array, lengths: Array, *, prefix: bool = False
    ) -> tuple[model.Output, cache.Cache]:
        """Read prompts [B, P] of `lengths` [B], padded on the right, at once; the next positions are `lengths`.

        `prefix` lets the prompts see themselves whole. Output.hidden [B, 1, D] are the states at their last tokens.
        """
        return self.call("prefill", params, filled, tokens, lengths, prefix)

    def decode_step(
        self, params: Mapping[str, Array], filled: cache.Cache, tokens: Array, position: Array | int
    ) -> tuple[model.Output, cache.Cache]:
        """One token a row: tokens [B] at position (a scalar or [B]) -> Output with hidden [B, 1, D], and the cache."""
        return self.call("decode_step", params, filled, tokens, position)


class _Decoder(nn.Module):
    config: Decoder

    def setup(self):
        m, c = self.config, self.config.stack
        self.token_embedder = layers.Table(m.vocabulary, c.width, "vocab", c.init.embedding, m.compute)
        self.decoder = trunk.Trunk(c, m.compute, decoder=True)
        self.logits = readout.Output(c, m.vocabulary, m.tied, m.output_bias, m.logit_scale)

    def __call__(self, batch: Mapping[str, Array]) -> model.Output:
        return self._output(model.at_targets(self._read(batch)[0], batch))

    def states(self, batch: Mapping[str, Array]) -> dict[str, Array]:
        return {"decoder": self._read(batch, "states")[1]} if "decoder_inputs" in batch else {}

    def _read(self, batch: Mapping[str, Array], collect: str = "nothing") -> Any:
        return self.decoder(
            self.token_embedder(batch["decoder_inputs"]),
            segments=batch["decoder_segments"],
            places=batch["decoder_positions"],
            prefix=batch.get("decoder_prefix"),
            collect=collect,
        )

    def prefill(self, filled: cache.Cache, tokens: Array, lengths: Array, prefix: bool) -> Any:
        places = jnp.broadcast_to(jnp.arange(tokens.shape[1])[None], tokens.shape)
        segments = (places < lengths[:, None]).astype(jnp.int32)
        hidden, pairs = self.decoder(
            self.token_embedder(tokens),
            segments=segments,
            places=places,
            prefix=segments if prefix else None,
            collect="pairs",
        )
        last = jnp.take_along_axis(hidden, lengths[:, None, None] - 1, axis=1)
        return self._output(last), cache.write(filled, pairs["self"], jnp.zeros_like(lengths))

    def decode_step(self, filled: cache.Cache, tokens: Array, position: Array | int) -> Any:
        places = jnp.broadcast_to(jnp.asarray(position, jnp.int32), tokens.shape)
        hidden, pairs = self.decoder.step(self.token_embedder(tokens[:, None]), places, filled)
        return self._output(hidden), cache.write(filled, pairs, places)

    def _output(self, hidden: Array) -> model.Output:
        return model.Output(hidden=hidden, readout=self.logits(self.token_embedder.embedding))
