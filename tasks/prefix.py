"""Language modelling: continue a text, from nothing or from a prefix that is read both ways."""

import abc
import dataclasses
from collections.abc import Sequence

import numpy as np

from tasks import batches, objective, pieces, specials


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Continuation(objective.Rewriting):
    """Splits each piece into what is read and what is written."""

    @abc.abstractmethod
    def bounds(self) -> tuple[float, float]:
        """Returns the least and the greatest share of a piece that is read."""

    def window(self, inputs: int, targets: int) -> int:
        """Returns how many raw tokens a row consumes: those that fit at either bound."""
        mode = self.mode is not None
        if self.kind == "decoder":
            return inputs + targets - mode
        low, high = self.bounds()
        return objective.longest(
            lambda length: int(high * length) + 1 + mode <= inputs and length - int(low * length) + 1 <= targets,
            inputs + targets,
        )

    def rows(
        self,
        found: pieces.Pieces,
        rngs: Sequence[np.random.Generator],
        *,
        inputs: int,
        targets: int,
        specials: specials.Specials,
    ) -> batches.Batch:
        """Returns the batch of these rows."""
        mode = self.announced(specials)
        # A decoder alone goes on reading its own text: EOS stands where a document ends, and nowhere else.
        alone = self.kind == "decoder"
        eos = None if alone else specials.eos
        text = found if alone else found.text(specials.eos)
        low, high = self.bounds()
        share = low + (high - low) * pieces.uniforms(rngs, np.bincount(text.rows, minlength=text.count))

        def read(lengths: np.ndarray) -> np.ndarray:
            return np.minimum((share * lengths).astype(np.int64), np.maximum(lengths - 1, 0))

        def left(lengths: np.ndarray) -> np.ndarray:
            return (read(lengths) + (mode is not None) + (not alone)) * (lengths > 0)

        def right(lengths: np.ndarray) -> np.ndarray:
            return (lengths - read(lengths) + (not alone)) * (lengths > 0)

        if alone:
            text = text.cut(text.fit(inputs + targets, lambda lengths: left(lengths) + right(lengths)))
        else:
            text = text.cut(text.fit(inputs, left))
            text = text.cut(text.fit(targets, right))
        given, full = read(text.lengths), text.lengths > 0
        return self.lay(
            text.cut(given).within(mode, eos, full=full),
            text.cut(text.lengths - given, given).within(None, eos),
            inputs=inputs,
            targets=targets,
            specials=specials,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrefixLM(_Continuation):
    """Prefix language modelling (Raffel et al. 2020, arXiv:1910.10683, section 3.2.1).

    Of each piece the first part, of a share drawn between `low` and `high`, is read; the rest is written. For an
    encoder-decoder both end with EOS; a decoder alone has `decoder_prefix` instead.

    Attributes:
        low: least share that is read.
        high: greatest; equal to `low` for a fixed share (UL2's S-denoiser: 0.75 each).
    """

    low: float = 0.0
    high: float = 1.0

    def __post_init__(self):
        """Refuses shares that are none."""
        super().__post_init__()
        ordered = 0 <= self.low <= self.high <= 1 and self.low < 1
        objective.require(self, ordered, f"low={self.low} and high={self.high} are not shares in order, low below 1")

    def bounds(self) -> tuple[float, float]:
        """Returns the least and the greatest share of a piece that is read."""
        return self.low, self.high


@dataclasses.dataclass(frozen=True, kw_only=True)
class CausalLM(_Continuation):
    """Causal language modelling: every token from those before it.

    For an encoder-decoder the encoder reads an empty text (the mode token, if any, and EOS).
    """

    kind: str = "decoder"

    def bounds(self) -> tuple[float, float]:
        """Returns zero: nothing is read."""
        return 0.0, 0.0

    def spec(self, batch: int, inputs: int, targets: int) -> batches.Spec:
        """Returns name to (shape, dtype)."""
        spec = super().spec(batch, inputs, targets)
        spec.pop("decoder_prefix", None)
        return spec

    def rows(
        self,
        found: pieces.Pieces,
        rngs: Sequence[np.random.Generator],
        *,
        inputs: int,
        targets: int,
        specials: specials.Specials,
    ) -> batches.Batch:
        """Returns the batch of these rows."""
        batch = super().rows(found, rngs, inputs=inputs, targets=targets, specials=specials)
        batch.pop("decoder_prefix", None)
        return batch
