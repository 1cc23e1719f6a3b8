"""Encoder-decoders: a causal stack that attends to the states of a bidirectional one (T5, BART ...)."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from models import cache, heads, layers, model, readout, trunk
from models import costs as cost
from models import stack as stacks


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncoderDecoder(model.Model):
    """An encoder stack, a decoder stack of the same width with cross-attention, and an output over the vocabulary.

    A batch holds encoder_inputs, encoder_segments, encoder_positions [B, S] and decoder_inputs, decoder_segments,
    decoder_positions [B, L]; optionally encoder_types [B, S] and target_positions [B, M] (absent: all places).
    Decoder segment n attends to encoder segment n.

    share_embeddings  one token table for both sides; without, the decoder has decoder_token_embedder/embedding.
    tied              the output's kernel is the decoder's token table, else logits/kernel.
    output_bias       a bias on the logits, logits/bias.
    logit_scale       "width" multiplies logits by width ** -0.5 (T5 v1.0); "none" does not.
    head              what stands on the states that the decoder attends to: detection of replaced tokens (METRO-T0,
                      arXiv:2305.12567), whose logits [B, S] are the output's.
    fusion            the decoder attends to a learned mix of all the encoder's states, embeddings included, taken
                      before the encoder's final norm, which is applied to the mix.
    """

    kind: ClassVar[str] = "encdec"

    encoder: stacks.Stack
    decoder: stacks.Stack
    share_embeddings: bool = True
    tied: bool = True
    output_bias: bool = False
    logit_scale: str = "none"
    head: heads.ReplacedToken | None = None
    fusion: bool = False

    def __post_init__(self):
        super().__post_init__()
        readout.check_scale(self.logit_scale, type(self).__name__)
        model.check_tables(type(self).__name__, self.encoder, self.decoder)
        if self.encoder.width != self.decoder.width:
            raise ValueError(
                f"EncoderDecoder: encoder width {self.encoder.width} differs from decoder width {self.decoder.width}; "
                "give both stacks the same width"
            )

    def module(self) -> nn.Module:
        """The Flax module, from a batch to an `Output`."""
        return _EncoderDecoder(self)

    def example(self) -> dict[str, Array]:
        """The smallest batch that reaches every parameter."""
        names = [f"{side}_{what}" for side in ("encoder", "decoder") for what in ("inputs", "segments", "positions")]
        return dict.fromkeys(names, jnp.zeros((1, 2), jnp.int32))

    @property
    def outputs(self) -> tuple[str, ...]:
        """The fields of `Output` that the decoder and a head on the encoder fill."""
        return ("readout", *(head.output for head in heads.single(self.head)))

    def costs(self, rows: int, inputs: int, targets: int, predicted: int) -> tuple[cost.Cost, ...]:
        """What a batch of `rows` x (`inputs` + `targets`) places costs, with the output at `predicted` places a row."""
        table = "token_embedder" if self.share_embeddings else "decoder_token_embedder"
        paths = f"{table}/.*|logits/.*" if self.tied else "logits/.*"
        fused = self.encoder.layers + 1 if self.fusion else 0
        return (
            cost.embeddings("encoder", "token_embedder"),
            cost.stack("encoder", self.encoder, rows, inputs, causal=False),
            *(head.cost(self.encoder, self.vocabulary, rows, inputs) for head in heads.single(self.head)),
            cost.embeddings("decoder", table),
            cost.stack("decoder", self.decoder, rows, targets, causal=True, memory=inputs, fused=fused),
            cost.output(paths, rows * predicted, (self.decoder.width, self.vocabulary)),
        )

    def encode(self, params: Mapping[str, Array], batch: Mapping[str, Any], *, key: Array | None = None) -> Array:
        """[B, S, D]: what the decoder attends to, from the encoder_* features of a batch."""
        return self.call("encode", params, batch, key=key)

    def start_cache(
        self, params: Mapping[str, Array], batch_size: int, max_length: int, encoded: Array, encoder_segments: Array
    ) -> cache.Cache:
        """A cache for rows of up to `max_length` tokens: no token yet, keys and values of `encoded` computed once.

        encoded [B, S, D] comes from `encode`; the row attends wherever encoder_segments [B, S] is not 0. The batch
        axis is 1 in every leaf.
        """
        if encoded.shape[0] != batch_size:
            raise ValueError(
                f"EncoderDecoder: batch_size is {batch_size} but encoded has {encoded.shape[0]} rows; give as many"
            )
        return self.call("start_cache", params, max_length, encoded, encoder_segments)

    def decode_step(
        self, params: Mapping[str, Array], filled: cache.Cache, tokens: Array, position: Array | int
    ) -> tuple[model.Output, cache.Cache]:
        """One token a row: tokens [B] at position (a scalar or [B]) -> Output with hidden [B, 1, D], and the cache."""
        return self.call("decode_step", params, filled, tokens, position)


class _EncoderDecoder(nn.Module):
    config: EncoderDecoder

    def setup(self):
        m = self.config

        def table(config: stacks.Stack) -> layers.Table:
            return layers.Table(m.vocabulary, config.width, "vocab", config.init.embedding, m.compute)

        self.token_embedder = table(m.encoder)
        if not m.share_embeddings:
            self.decoder_token_embedder = table(m.decoder)
        self.encoder = trunk.Trunk(m.encoder, m.compute)
        fused = m.encoder.layers + 1 if m.fusion else 0
        self.decoder = trunk.Trunk(m.decoder, m.compute, decoder=True, cross=True, fused=fused)
        self.logits = readout.Output(m.decoder, m.vocabulary, m.tied, m.output_bias, m.logit_scale)
        for head in heads.single(m.head):
            setattr(self, head.name, head.build(m.encoder, m.vocabulary, m.compute))

    def __call__(self, batch: Mapping[str, Array]) -> model.Output:
        encoded = self.encode(batch)
        hidden, _ = self._write(batch, encoded)
        output = self._output(model.at_targets(hidden, batch), encoded)
        for head in heads.single(self.config.head):
            detected = getattr(self, head.name)(encoded, batch, output.readout)
            output = dataclasses.replace(output, logits=detected.logits)
        return output

    def encode(self, batch: Mapping[str, Array]) -> Array:
        return self._read(batch)[0]

    def states(self, batch: Mapping[str, Array]) -> dict[str, Array]:
        if "encoder_inputs" not in batch:
            return {}
        encoded, states = self._read(batch, "states")
        if "decoder_inputs" not in batch:
            return {"encoder": states}
        return {"encoder": states, "decoder": self._write(batch, encoded, "states")[1]}

    def _read(self, batch: Mapping[str, Array], collect: str = "nothing") -> Any:
        fusion = self.config.fusion
        hidden, states = self.encoder(
            self.token_embedder(batch["encoder_inputs"]),
            segments=batch["encoder_segments"],
            places=batch["encoder_positions"],
            types=batch.get("encoder_types"),
            collect="states" if fusion else collect,
        )
        return (self.encoder.close(self.decoder.fuse(states)) if fusion else hidden), states

    def _write(self, batch: Mapping[str, Array], encoded: Array, collect: str = "nothing") -> Any:
        return self.decoder(
            self._table(batch["decoder_inputs"]),
            segments=batch["decoder_segments"],
            places=batch["decoder_positions"],
            memory=(encoded, batch["encoder_segments"]),
            collect=collect,
        )

    def start_cache(self, max_length: int, encoded: Array, encoder_segments: Array) -> cache.Cache:
        # Keys and values of the memory do not depend on the decoder's tokens: any one token brings them out.
        nothing = jnp.zeros((encoded.shape[0], 1), jnp.int32)
        _, pairs = self.decoder(
            self._table(nothing),
            segments=nothing,
            places=nothing,
            memory=(encoded, encoder_segments),
            collect="pairs",
        )
        empty = cache.start(self.config.decoder, self.config.compute, encoded.shape[0], max_length)
        return {**empty, "cross": pairs["cross"], "seen": (encoder_segments != 0)[None]}

    def decode_step(self, filled: cache.Cache, tokens: Array, position: Array | int) -> Any:
        places = jnp.broadcast_to(jnp.asarray(position, jnp.int32), tokens.shape)
        hidden, pairs = self.decoder.step(self._table(tokens[:, None]), places, filled)
        return self._output(hidden), cache.write(filled, pairs, places)

    @property
    def _table(self) -> layers.Table:
        return self.token_embedder if self.config.share_embeddings else self.decoder_token_embedder

    def _output(self, hidden: Array, encoded: Array | None = None) -> model.Output:
        return model.Output(hidden=hidden, readout=self.logits(self._table.embedding), encoded=encoded)
