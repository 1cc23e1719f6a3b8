"""Span corruption: runs of tokens become one sentinel each, and the answer spells the runs out."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from tasks import batches, objective, pieces, specials

PLACEMENTS = ("anywhere", "t5")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpanCorruption(objective.Rewriting):
    """Span corruption of T5 (Raffel et al. 2020, arXiv:1910.10683).

    Each piece is corrupted by itself, with T5's counts for its length: round(density * length) noise tokens in
    round(noise / mean_span) spans, all placements equally likely. T5 begins a text with a clean token and ends it with
    a noise token; in a sentence short enough for one span that would always be the end, so here spans fall anywhere
    unless told otherwise. Sentinels start from the first in each piece, and inputs and targets end with EOS.

    When a row of many short pieces would need more targets than it has, pieces in random order take what they need
    until the row is full: one gets less noise, the ones behind it stay clean and have no target. When the inputs would
    be too long the row's last tokens are left out.

    Attributes:
        density: share of the tokens that is noise.
        mean_span: tokens in a span, on average.
        placement: 'anywhere' between clean tokens, or 't5'.
    """

    density: float = 0.15
    mean_span: float = 3.0
    placement: str = "anywhere"

    def __post_init__(self):
        """Refuses rates that are none."""
        super().__post_init__()
        objective.require(self, 0 < self.density < 1, f"density={self.density} is not between 0 and 1")
        objective.require(self, self.mean_span >= 1, f"mean_span={self.mean_span} is less than one token")
        known = self.placement in PLACEMENTS
        objective.require(self, known, f"placement={self.placement!r} is not one of {', '.join(PLACEMENTS)}")

    def window(self, inputs: int, targets: int) -> int:
        """Returns how many raw tokens a row consumes: T5's `random_spans_helper`, shortened to fit the targets."""

        def fits(length: int) -> bool:
            noise = max(1, round(length * self.density))
            spans = max(1, round(noise / self.mean_span))
            read, written = length - noise + spans + 1 + (self.mode is not None), noise + spans + 1
            if self.kind == "decoder":
                return read + written <= inputs + targets
            return read <= inputs and written <= targets

        return objective.longest(fits, inputs + targets)

    def needs(self) -> tuple[str, ...]:
        """Returns the special ids it writes."""
        return (*super().needs(), "sentinel 0")

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
        specials.need("sentinel 0", type(self).__name__)
        mode, sentinels = self.announced(specials), np.array(specials.sentinels, np.int32)
        text = found.text(specials.eos)
        # A piece's random numbers: one for its turn to take target slots, then one for each token and two for the ends.
        share = text.lengths + 3
        drawn = pieces.uniforms(rngs, np.bincount(text.rows, share, text.count).astype(np.int64))
        heads = np.cumsum(share) - share
        turn = drawn[heads]

        noise, spans = counts(text.lengths, self.density, self.mean_span, len(sentinels))
        granted = np.where(noise > 0, noise + spans + 1, 0)
        if self.kind == "encdec":
            granted = _grant(granted, turn, text, targets)

        def plan(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            noise, spans = counts(lengths, self.density, self.mean_span, len(sentinels))
            return shrink(noise, spans, granted, self.mean_span, len(sentinels))

        def cost(lengths: np.ndarray) -> np.ndarray:
            noise, spans = plan(lengths)
            read = (lengths - noise + spans + 1 + (mode is not None)) * (lengths > 0)
            return read if self.kind == "encdec" else read + np.where(noise > 0, noise + spans + 1, 0)

        lengths = text.fit(inputs, cost) if self.kind == "encdec" else text.fit(inputs + targets, cost, price=2)
        noise, spans = plan(lengths)
        text = text.cut(lengths)
        mask = random_mask(lengths, noise, spans, drawn, heads + 1, ends=0 if self.placement == "t5" else 1)
        read, written = replace(text, mask, sentinels)
        read, written = read.within(mode, specials.eos), written.within(None, specials.eos)
        return self.lay(read, written, inputs=inputs, targets=targets, specials=specials)


def counts(lengths: np.ndarray, density: float, mean_span: float, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the noise tokens and spans ([P] each) of pieces of these lengths: T5's, in float32 as there.

    A piece of one token has no noise; there are at most `most` spans (sentinels) and one clean token before each.
    """
    noise = np.round(lengths.astype(np.float32) * np.float32(density)).astype(np.int64)
    noise = np.clip(noise, 1, np.maximum(lengths - 1, 1)) * (lengths > 1)
    return noise, np.minimum(_spans(noise, mean_span, most), lengths - noise)


def shrink(
    noise: np.ndarray, spans: np.ndarray, granted: np.ndarray, mean_span: float, most: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns noise and spans lessened so that noise + spans + EOS stay within `granted` target slots ([P] each)."""
    ladder = np.arange(1, max(1, int(granted.max(initial=0))) + 1)
    prices = ladder + _spans(ladder, mean_span, most) + 1
    fewer = np.minimum(noise, np.searchsorted(prices, granted, side="right"))
    return fewer, np.where(fewer < noise, np.minimum(_spans(fewer, mean_span, most), spans), spans)


def random_mask(
    lengths: np.ndarray, noise: np.ndarray, spans: np.ndarray, drawn: np.ndarray, heads: np.ndarray, *, ends: int
) -> np.ndarray:
    """Returns which tokens are noise, [N] bool: in each piece spans between clean tokens, all masks equally likely.

    Args:
        lengths: [P] of the pieces.
        noise: [P] noise tokens in each, 0 for a clean piece.
        spans: [P] noise spans in each, at most `noise` and at most the clean tokens.
        drawn: uniform random numbers.
        heads: [P] where those of each piece begin; it uses length + 2.
        ends: 0 begins each piece with a clean run and ends it with noise, as T5 does; 1 lets both ends be either.
    """
    noisy = np.flatnonzero(noise)
    lengths_, noise_, spans_ = lengths[noisy], noise[noisy], spans[noisy]
    # Clean and noise tokens are each cut into runs that are not empty. For free ends there is one clean run more, and a
    # token more in the first and in the last, which is taken out again below.
    items = np.stack([lengths_ - noise_ + 2 * ends, noise_], 1).ravel()
    parts = np.stack([spans_ + ends, spans_], 1).ravel()
    total = lengths_ + 2 * ends
    numbers = np.repeat(heads[noisy] - (np.cumsum(total) - total), total) + np.arange(total.sum())
    runs = _compositions(items, parts, drawn[numbers])
    is_noise = np.repeat(np.tile([False, True], len(noisy)), parts)
    clean, noise_runs = runs[~is_noise], runs[is_noise]
    behind = np.cumsum(spans_ + ends)
    if ends:
        clean[behind - spans_ - 1] -= 1
        clean[behind - 1] -= 1
        noise_runs = np.insert(noise_runs, np.cumsum(spans_), 0)
    runs = np.stack([clean, noise_runs], 1).ravel()
    mask = np.zeros(int(lengths.sum()), bool)
    mask[np.repeat(noise > 0, lengths)] = np.repeat(np.tile([False, True], len(clean)), runs)
    return mask


def replace(found: pieces.Pieces, mask: np.ndarray, sentinels: np.ndarray) -> tuple[pieces.Pieces, pieces.Pieces]:
    """Splits pieces at runs of masked tokens.

    Returns:
        The pieces with each run replaced by the piece's next sentinel, as t5.data.preprocessors.
        noise_span_to_unique_sentinel gives them; and each run behind its sentinel, which is
        nonnoise_span_to_unique_sentinel where a piece begins clean and ends masked.
    """
    starts = found.ends - found.lengths
    first = mask.copy()
    first[1:] &= ~mask[:-1]
    heads = starts[found.lengths > 0]
    first[heads] = mask[heads]
    at = np.flatnonzero(first)
    below = np.searchsorted(at, starts)
    owner = np.searchsorted(found.ends, at, side="right")
    used = sentinels[np.arange(len(at)) - below[owner]]

    tokens = found.tokens.copy()
    tokens[at] = used
    keep = ~mask | first
    hidden = found.tokens[mask]
    spelt = np.empty(len(hidden) + len(at), np.int32)
    place = np.arange(len(hidden)) + np.cumsum(first[mask])
    spelt[place] = hidden
    spelt[place[first[mask]] - 1] = used

    noise = np.diff(np.concatenate([[0], np.cumsum(mask)])[np.append(starts, len(mask))])
    spans = np.bincount(owner, minlength=len(starts))
    read = dataclasses.replace(found, tokens=tokens[keep], lengths=found.lengths - noise + spans)
    return read, dataclasses.replace(found, tokens=spelt, lengths=noise + spans)


def _spans(noise: np.ndarray, mean_span: float, most: int) -> np.ndarray:
    spans = np.round(noise.astype(np.float32) / np.float32(mean_span)).astype(np.int64)
    return np.clip(spans, 1, max(1, most)) * (noise > 0)


def _grant(cost: np.ndarray, turn: np.ndarray, found: pieces.Pieces, most: int) -> np.ndarray:
    """Returns the target slots each piece gets: pieces take what they cost in the order of `turn` while there are."""
    order = np.argsort(found.rows + turn)
    spent = np.empty_like(cost)
    spent[order] = pieces.before(cost[order], found.rows)
    return np.clip(most - spent, 0, cost)


def _compositions(items: np.ndarray, parts: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Cuts each group of `items[g]` things into `parts[g]` runs that are not empty, all ways equally likely.

    Args:
        items: [G], at least parts.
        parts: [G], at least one.
        drawn: [sum(items)] uniform random numbers.

    Returns:
        [sum(parts)] lengths of the runs.
    """
    ends, need = np.cumsum(items), parts - 1
    # A run starts at each group's first thing and at those others whose random numbers are the smallest. Only numbers
    # below a bound that rarely leaves too few are sorted.
    bound = (need > 0) * (need + 4 * np.sqrt(need) + 4) / items
    while True:
        below = drawn < np.repeat(bound, items)
        below[ends - items] = False
        at = np.flatnonzero(below)
        owner = np.searchsorted(ends, at, side="right")
        found = np.bincount(owner, minlength=len(items))
        if (found >= need).all():
            break
        bound = np.where(found < need, 1.0, bound)
    order = np.argsort(2 * owner + drawn[at])
    rank = np.arange(len(at)) - np.repeat(np.cumsum(found) - found, found)
    heads = np.sort(np.concatenate([ends - items, at[order[rank < need[owner]]]]))
    return np.diff(heads, append=len(drawn))
