"""Where the documents of a token stream begin: in memory while they fit, else an index over the array on disk."""

import numpy as np
import tensorstore

IN_MEMORY = 2**23
_STRIDE = 4096
_BLOCK = 2**20


class Offsets:
    """Sorted document offsets, `documents + 1` of them: the last is the length of the stream."""

    def __init__(self, array: tensorstore.TensorStore, *, in_memory: int = IN_MEMORY):
        """Reads the offsets once.

        Args:
            array: [documents + 1] int64.
            in_memory: up to this many are kept (8 bytes each); beyond, one in 4096 is, and the rest is read when asked.
        """
        self._array = array
        self.count = int(array.shape[0])
        self._whole = np.asarray(array.read().result()) if self.count <= in_memory else None
        if self._whole is None:
            kept = []
            for start in range(0, self.count, _BLOCK):
                kept.append(array[start : min(start + _BLOCK, self.count)].read().result()[::_STRIDE])
            self._index = np.concatenate(kept)

    def between(self, start: int, stop: int) -> np.ndarray:
        """Returns the offsets o with start < o < stop, int64, in order."""
        if self._whole is not None:
            known = self._whole
        else:
            first = max(0, int(np.searchsorted(self._index, start, side="right")) - 1) * _STRIDE
            last = min(self.count, int(np.searchsorted(self._index, stop, side="left")) * _STRIDE + 1)
            known = np.asarray(self._array[first:last].read().result())
        low, high = np.searchsorted(known, start, side="right"), np.searchsorted(known, stop, side="left")
        return known[low:high]

    def at(self, index: int) -> tuple[int, int]:
        """Returns where document `index` begins and ends."""
        both = slice(index, index + 2)
        low, high = self._whole[both] if self._whole is not None else self._array[both].read().result()
        return int(low), int(high)
