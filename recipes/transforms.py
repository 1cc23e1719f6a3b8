"""Changes of value that a `Take` may ask for. Each says which shape it makes before it touches an array."""

import dataclasses
from typing import Any

import numpy as np


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


def changes_dtype(by: Any) -> bool:
    """Whether the transform is the one that may change a dtype."""
    return isinstance(by, Cast)
