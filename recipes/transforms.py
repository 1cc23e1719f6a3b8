"""Changes of value that a `Take` may ask for. Each says which shape it makes before it touches an array."""

import abc
import dataclasses
import functools
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from tasks import matching


@dataclasses.dataclass(frozen=True, kw_only=True)
class PickLayers:
    """Some layers of a stack, in order; the leading axis is the layers.

    Attributes:
      layers: which ones, counted from 0; None picks as many as the target has, evenly spread from the first to the
        last (Shleifer & Rush 2020, https://arxiv.org/abs/2010.13002, keep layers evenly spaced).
    """

    layers: tuple[int, ...] | None = None

    def shape(self, source: tuple[int, ...], target: tuple[int, ...]) -> tuple[int, ...]:
        """The shape that comes out; raises ValueError when the source has too few layers."""
        picked = self._picked(source, target)
        if picked and max(picked) >= source[0]:
            raise ValueError(f"picks layer {max(picked)} of a source with layers 0 to {source[0] - 1}")
        return (len(picked), *source[1:])

    def __call__(self, array: np.ndarray, target: tuple[int, ...]) -> np.ndarray:
        """The picked layers of `array` [layers, ...]."""
        return np.take(array, np.asarray(self._picked(array.shape, target)), axis=0)

    def _picked(self, source: tuple[int, ...], target: tuple[int, ...]) -> tuple[int, ...]:
        if self.layers is not None:
            return self.layers
        count = target[0]
        if count > source[0]:
            raise ValueError(
                f"the target has {count} layers and the source {source[0]}; name them in PickLayers.layers"
            )
        return tuple(round(index * (source[0] - 1) / max(count - 1, 1)) for index in range(count))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cast:
    """The same values in the target's dtype: the one way in which a handoff may change a dtype."""

    def shape(self, source: tuple[int, ...], target: tuple[int, ...]) -> tuple[int, ...]:
        """The source's own shape."""
        return source

    def __call__(self, array: np.ndarray, target: tuple[int, ...]) -> np.ndarray:
        """The array itself; whoever puts it in place gives it the target's dtype."""
        return array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """Rows for another vocabulary: shared pieces keep theirs, new ones begin as the mean of their old pieces.

    For whatever has one row a token id: token tables, output kernels and biases. See tasks/matching.py.

    Attributes:
      old: the source's vocabulary: a file or directory as `baton store --vocabulary` takes it, or a token store.
      new: the target's.
    """

    old: str
    new: str

    def shape(self, source: tuple[int, ...], target: tuple[int, ...]) -> tuple[int, ...]:
        """As many rows as the target has; raises ValueError when one side has fewer than its vocabulary."""
        for side, rows, path in (("source", source[0], self.old), ("target", target[0], self.new)):
            size = _opened(path).specials.size
            if size > rows:
                raise ValueError(f"vocabulary {path} has {size} ids and the {side} {rows} rows; name the {side}'s own")
        return (target[0], *source[1:])

    def __call__(self, array: np.ndarray, target: tuple[int, ...]) -> np.ndarray:
        """The rows of the new vocabulary, from `array` [old ids or more, ...]."""
        return _matched(self.old, self.new).rows(array[: _opened(self.old).specials.size], target[0])

    def report(self, target: tuple[int, ...]) -> str:
        """How many rows of the target come about how."""
        found = _matched(self.old, self.new)
        return (
            f"{found.shared:,} rows of shared pieces, {found.spelt:,} means of old pieces, {found.unknown:,} of "
            f"unknown pieces and {target[0] - len(found.sources):,} beyond the vocabulary, which have the mean of all"
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Positions(abc.ABC):
    """A longer table of learned positions.

    Attributes:
      offset: rows before the first position's, which stay as they are (`Stack.position_offset`).
    """

    offset: int = 0

    def shape(self, source: tuple[int, ...], target: tuple[int, ...]) -> tuple[int, ...]:
        """The target's rows; raises ValueError when the source has no position."""
        if source[0] <= self.offset:
            raise ValueError(
                f"the source has {source[0]} rows and offset is {self.offset}; give the stack's position_offset"
            )
        return (target[0], *source[1:])

    def __call__(self, array: np.ndarray, target: tuple[int, ...]) -> np.ndarray:
        """[target rows, width] from `array` [rows, width]."""
        return np.concatenate([array[: self.offset], self._longer(array[self.offset :], target[0] - self.offset)])

    @abc.abstractmethod
    def _longer(self, table: np.ndarray, rows: int) -> np.ndarray:
        """[rows, width] from a table [positions, width]."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RepeatPositions(_Positions):
    """The old table over and over (Longformer, https://arxiv.org/abs/2004.05150)."""

    def _longer(self, table: np.ndarray, rows: int) -> np.ndarray:
        return table[np.arange(rows) % len(table)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class StretchPositions(_Positions):
    """The old table drawn out, with straight lines between its rows; first and last position keep theirs."""

    def _longer(self, table: np.ndarray, rows: int) -> np.ndarray:
        place = np.linspace(0, len(table) - 1, rows)
        low = np.minimum(place.astype(int), len(table) - 2) if len(table) > 1 else np.zeros(rows, int)
        share = (place - low)[:, None].astype(table.dtype)
        return table[low] * (1 - share) + table[np.minimum(low + 1, len(table) - 1)] * share


@functools.cache
def _opened(path: str) -> Any:
    from tasks import vocabulary

    return vocabulary.encoder(path)


@functools.cache
def _matched(old: str, new: str) -> "matching.Match":
    from tasks import matching

    return matching.match(_opened(old), _opened(new))


def changes_dtype(by: Any) -> bool:
    """Whether the transform is the one that may change a dtype."""
    return isinstance(by, Cast)
