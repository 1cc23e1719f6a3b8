"""Rows of tokens cut into pieces of documents, flat in memory, so that a whole batch is worked on at once.

Shapes: N tokens, P pieces, R rows. Pieces lie in the order of their rows; a row's pieces lie in the order of its text.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pieces:
    """R rows of token pieces.

    Attributes:
        tokens: [N] int32.
        lengths: [P] int64, tokens in each piece (0 is allowed).
        rows: [P] int64, the row of each piece, ascending.
        count: R.
    """

    tokens: np.ndarray
    lengths: np.ndarray
    rows: np.ndarray
    count: int

    @classmethod
    def of(cls, rows: Sequence[Sequence[np.ndarray]]) -> "Pieces":
        """Returns the rows given as lists of arrays."""
        flat = [np.asarray(piece, np.int32) for row in rows for piece in row]
        return cls(
            tokens=np.concatenate([np.zeros(0, np.int32), *flat]),
            lengths=np.array([len(piece) for piece in flat], np.int64),
            rows=np.repeat(np.arange(len(rows)), [len(row) for row in rows]),
            count=len(rows),
        )

    @property
    def ends(self) -> np.ndarray:
        """[P] int64, where each piece ends in `tokens`."""
        return np.cumsum(self.lengths)

    def segments(self) -> np.ndarray:
        """Returns [P] int64, the number of each piece in its row, from 1."""
        return before(np.ones_like(self.lengths), self.rows) + 1

    def take(self, rows: np.ndarray) -> "Pieces":
        """Returns the rows at these ascending indices, numbered anew."""
        number = np.full(self.count, -1)
        number[rows] = np.arange(len(rows))
        number = number[self.rows]
        kept = number >= 0
        return Pieces(
            tokens=self.tokens[np.repeat(kept, self.lengths)],
            lengths=self.lengths[kept],
            rows=number[kept],
            count=len(rows),
        )

    def cut(self, lengths: np.ndarray, skip: np.ndarray | int = 0) -> "Pieces":
        """Returns `lengths` tokens of each piece, behind its first `skip` ([P] both)."""
        index = np.repeat(self.ends - self.lengths + skip - (np.cumsum(lengths) - lengths), lengths)
        index += np.arange(len(index))
        return dataclasses.replace(self, tokens=self.tokens[index], lengths=lengths)

    def text(self, eos: int) -> "Pieces":
        """Returns the pieces without the EOS at their ends."""
        full = self.lengths > 0
        marked = np.zeros_like(full)
        marked[full] = self.tokens[self.ends[full] - 1] == eos
        kept = np.ones(len(self.tokens), bool)
        kept[self.ends[marked] - 1] = False
        return dataclasses.replace(self, tokens=self.tokens[kept], lengths=self.lengths - marked)

    def joined(self, *, eos: int, doc: int) -> "Pieces":
        """Returns each row as one piece, in which `doc` stands between documents instead of EOS."""
        tokens = self.tokens.copy()
        inner = np.flatnonzero(self.rows[1:] == self.rows[:-1])
        last = self.ends[inner] - 1
        tokens[last[tokens[last] == eos]] = doc
        lengths = np.bincount(self.rows, self.lengths, self.count).astype(np.int64)
        return Pieces(tokens=tokens, lengths=lengths, rows=np.arange(self.count), count=self.count)

    def within(self, first: int | None, last: int | None, *, full: np.ndarray | None = None) -> "Pieces":
        """Returns the pieces with the id `first` put before and `last` behind each that is `full` ([P] bool).

        By default those are the pieces that are not empty.
        """
        full = self.lengths > 0 if full is None else full
        extra = full * ((first is not None) + (last is not None))
        lengths = self.lengths + extra
        ends = np.cumsum(lengths)
        tokens = np.empty(int(lengths.sum()), np.int32)
        shift = np.repeat(ends - extra - self.ends + full * (first is not None), self.lengths)
        tokens[np.arange(len(self.tokens)) + shift] = self.tokens
        if first is not None:
            tokens[(ends - lengths)[full]] = first
        if last is not None:
            tokens[ends[full] - 1] = last
        return dataclasses.replace(self, tokens=tokens, lengths=lengths)

    def fit(self, limit: int, cost: Callable[[np.ndarray], np.ndarray], *, price: int = 1) -> np.ndarray:
        """Shortens rows at their ends until what they cost stays within `limit`.

        Args:
            limit: what one row may cost.
            cost: from the lengths of all pieces to what each costs; nothing at length 0, never less for a longer one.
            price: the most that one token costs, inside a piece.

        Returns:
            [P] int64, the lengths to `cut` to.
        """
        lengths = self.lengths
        while True:
            over = np.bincount(self.rows, cost(lengths), self.count) - limit
            if not (over > 0).any():
                return lengths
            total = np.bincount(self.rows, lengths, self.count)[self.rows]
            behind = total - before(lengths, self.rows) - lengths
            much = np.ceil(over / price)
            lengths = lengths - np.clip(much[self.rows] - behind, 0, lengths).astype(np.int64)


def before(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Returns, for each piece, the sum of `values` over the pieces before it in its row ([P] int64)."""
    sums = np.cumsum(values) - values
    if not len(rows):
        return sums
    first = np.flatnonzero(np.concatenate([[True], rows[1:] != rows[:-1]]))
    return sums - np.repeat(sums[first], np.diff(np.append(first, len(rows))))


def uniforms(rngs: Sequence[np.random.Generator], counts: np.ndarray) -> np.ndarray:
    """Returns `counts[r]` numbers in [0, 1) from each row's generator, one after another, so that rows never mix."""
    return np.concatenate([rng.random(count) for rng, count in zip(rngs, counts.tolist(), strict=True)])
