"""Denoising as BART does it: spans are left out or masked, and the whole text is written again."""

import dataclasses
import functools
import math
from collections.abc import Sequence

import numpy as np

from tasks import batches, objective, pieces, specials

REPLACEMENTS = ("drop", "mask")
# Spans of length 0 are drawn too: this many candidates more than noise tokens run out once in millions of pieces.
_SPARE = 4
_ENDLESS = 2**40


@dataclasses.dataclass(frozen=True, kw_only=True)
class Denoise(objective.Rewriting):
    """Text infilling (BART, Lewis et al. 2020, arXiv:1910.13461), with or without markers (Soltan et al., 2306.08756).

    Of each piece `density` of the tokens is noise, in spans of Poisson length anywhere in it. Reading, each span is
    left out ('drop') or becomes one mask id ('mask', where a span of length 0 inserts one); writing, the whole text
    is the target. What is read and written ends with EOS. A row's last tokens are left out when they do not fit.

    Attributes:
        density: share of the tokens that is noise; the fraction of a token is drawn at random.
        mean_span: mean of the Poisson distribution of span lengths.
        replacement: 'drop' or 'mask'.
    """

    density: float = 0.15
    mean_span: float = 3.0
    replacement: str = "drop"

    def __post_init__(self):
        """Refuses rates that are none."""
        super().__post_init__()
        objective.require(self, 0 < self.density < 1, f"density={self.density} is not between 0 and 1")
        objective.require(self, self.mean_span > 0, f"mean_span={self.mean_span} is not positive")
        known = self.replacement in REPLACEMENTS
        objective.require(self, known, f"replacement={self.replacement!r} is not one of {', '.join(REPLACEMENTS)}")

    def window(self, inputs: int, targets: int) -> int:
        """Returns how many raw tokens a row consumes: the target and, as it is on average, the input fit."""

        def fits(length: int) -> bool:
            noise = round(length * self.density)
            marks = math.ceil(noise / self.mean_span) if self.replacement == "mask" else 0
            read, written = length - noise + marks + 1 + (self.mode is not None), length + 1
            if self.kind == "decoder":
                return read + written <= inputs + targets
            return read <= inputs and written <= targets

        return objective.longest(fits, inputs + targets)

    def needs(self) -> tuple[str, ...]:
        """Returns the special ids it writes."""
        return (*super().needs(), *(("mask",) if self.replacement == "mask" else ()))

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
        mode, marked = self.announced(specials), self.replacement == "mask"
        text = found.text(specials.eos)
        # Each piece's random numbers: one for the fraction of a token, then span lengths, then the order of things.
        room = text.lengths + _SPARE
        share = 1 + 2 * room
        drawn = pieces.uniforms(rngs, np.bincount(found.rows, share, found.count).astype(np.int64))
        heads = np.cumsum(share) - share

        def noise(lengths: np.ndarray) -> np.ndarray:
            return np.minimum(np.floor(self.density * lengths + drawn[heads]).astype(np.int64), lengths)

        def read(lengths: np.ndarray) -> np.ndarray:
            total = noise(lengths)
            marks = self._spans(total, heads + 1, drawn)[1] if marked else 0
            return (lengths - total + marks + 1 + (mode is not None)) * (lengths > 0)

        def written(lengths: np.ndarray) -> np.ndarray:
            return (lengths + 1) * (lengths > 0)

        if self.kind == "encdec":
            text = text.cut(text.fit(targets, written))
            text = text.cut(text.fit(inputs, read))
        else:
            both = text.fit(inputs + targets, lambda lengths: read(lengths) + written(lengths), price=2)
            text = text.cut(both)

        total = noise(text.lengths)
        spans, each = self._spans(total, heads + 1, drawn)
        items, is_span, mask = _arrange(text.lengths, total, spans, each, drawn, heads + 1 + room)
        if marked:
            tokens = np.full(len(is_span), specials.need("mask", type(self).__name__), np.int32)
            tokens[~is_span] = text.tokens[~mask]
            lengths = items
        else:
            tokens, lengths = text.tokens[~mask], text.lengths - total
        corrupt = dataclasses.replace(text, tokens=tokens, lengths=lengths)
        return self.lay(
            corrupt.within(mode, specials.eos, full=text.lengths > 0),
            text.within(None, specials.eos),
            inputs=inputs,
            targets=targets,
            specials=specials,
        )

    def _spans(self, noise: np.ndarray, heads: np.ndarray, drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the spans' lengths, piece by piece, and how many spans each piece has ([P])."""
        tries = (noise + _SPARE) * (noise > 0)
        ends = np.cumsum(tries)
        owner = np.repeat(np.arange(len(noise)), tries)
        lengths = np.searchsorted(
            _poisson(self.mean_span), drawn[heads[owner] + np.arange(len(owner)) - (ends - tries)[owner]]
        )
        lengths[ends[tries > 0] - 1] = _ENDLESS
        left = noise[owner] - pieces.before(lengths, owner)
        used = left > 0
        return np.minimum(lengths, left)[used], np.bincount(owner[used], minlength=len(noise))


def _arrange(
    lengths: np.ndarray, noise: np.ndarray, spans: np.ndarray, each: np.ndarray, drawn: np.ndarray, heads: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Puts the spans of each piece anywhere between its clean tokens, all orders equally likely.

    Returns:
        [P] things (clean tokens and spans) in each piece; [things] bool, which of them are spans, in order; [N] bool,
        which tokens are noise.
    """
    items = lengths - noise + each
    owner = np.repeat(np.arange(len(items)), items)
    rank = np.arange(len(owner)) - np.repeat(np.cumsum(items) - items, items)
    is_span = rank < each[owner]
    size = np.ones(len(owner), np.int64)
    size[is_span] = spans
    order = np.argsort(2 * owner + drawn[heads[owner] + rank])
    is_span, size = is_span[order], size[order]
    return items, is_span, np.repeat(is_span, size)


@functools.lru_cache(maxsize=8)
def _poisson(mean: float) -> np.ndarray:
    """Returns the cumulative distribution, to where float64 says 1."""
    terms = [math.exp(-mean + k * math.log(mean) - math.lgamma(k + 1)) for k in range(int(mean + 12 * mean**0.5) + 40)]
    return np.cumsum(terms)
