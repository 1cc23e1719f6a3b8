"""The feed: an endless iterator of batches, each a pure function of its step, made ahead on other threads by Grain.

Its state is the step alone: a feed that starts at step k gives what another gave at step k, at once.
"""

import sys
from collections.abc import Callable, Iterator, Sequence

import grain
import numpy as np

from tasks import batches, objective, pieces, schedule, specials, store

THREADS = 2
# A read from a bucket waits tens of milliseconds for each part, and costs little while it waits.
REMOTE_THREADS = 12
_AHEAD = 4


class Feed(Iterator[batches.Batch]):
    """An iterator over `make(start)`, `make(start + 1)`, ... of a function without side effects.

    Attributes:
        step: of the batch that `next` gives.
    """

    def __init__(self, make: Callable[[int], batches.Batch], *, start: int, threads: int = THREADS):
        """Starts to make the first batches.

        Args:
            make: from the step to its batch; called on several threads.
            start: first step.
            threads: that make batches.
        """
        self.step = start
        options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(_AHEAD, threads))
        steps = grain.MapDataset.range(start, sys.maxsize)
        self._batches = iter(steps.map(lambda step: make(int(step))).to_iter_dataset(options))
        self._batches.start_prefetch()

    def __next__(self) -> batches.Batch:
        """Returns the next batch."""
        batch = next(self._batches)
        self.step += 1
        return batch

    def close(self) -> None:
        """Stops making batches."""
        self._batches.close()


def share(batch: int, *, process_index: int, process_count: int) -> slice:
    """Returns which rows of a global batch this process makes.

    Raises:
        ValueError: the batch cannot be shared evenly.
    """
    if not 0 <= process_index < process_count or batch % process_count:
        raise ValueError(
            f"batch {batch} cannot be shared by {process_count} processes (this is {process_index}): "
            f"make the batch a multiple of {process_count}"
        )
    rows = batch // process_count
    return slice(process_index * rows, (process_index + 1) * rows)


def from_store(
    parts: Sequence[store.Part],
    rates: Sequence[float],
    goal: objective.Objective,
    *,
    inputs: int,
    targets: int,
    special: specials.Specials,
    separate: bool,
    batch: int,
    seed: int,
    rows: slice,
) -> Callable[[int], batches.Batch]:
    """Returns the function from a step to these rows of its batch.

    Args:
        parts: of the store, in the order of their numbers in batch['part'].
        rates: of the parts.
        goal: the objective.
        inputs: length of a row's inputs.
        targets: length of a row's targets.
        special: special ids of the vocabulary.
        separate: whether documents are segments of their own; else they are joined with the doc token between.
        batch: rows of the global batch.
        seed: of order, cuts and noise.
        rows: which of the batch's rows to make.
    """
    window = goal.window(inputs, targets)
    windows = schedule.Windows(tokens=tuple(p.tokens for p in parts), rates=tuple(rates), window=window, seed=seed)
    doc = None if separate else special.need("doc", "separate=False")

    def make(step: int) -> batches.Batch:
        number = np.arange(step * batch + rows.start, step * batch + rows.stop)
        part, starts = windows.at(number)
        found = _fetch(parts, part, starts, window)
        if doc is not None:
            found = found.joined(eos=special.eos, doc=doc)
        rngs = schedule.generators(seed, number)
        made = goal.rows(found, rngs, inputs=inputs, targets=targets, specials=special)
        return {**made, "part": part.astype(np.int32)}

    return make


def _fetch(parts: Sequence[store.Part], part: np.ndarray, starts: np.ndarray, window: int) -> pieces.Pieces:
    """Reads one window a row and cuts it at document borders."""
    tokens = np.empty((len(starts), window), np.int32)
    for number in np.unique(part):
        rows = np.flatnonzero(part == number)
        tokens[rows] = parts[number].read(starts[rows], window)
    cuts = [parts[number].pieces(start, window)[:-1] for number, start in zip(part, starts.tolist(), strict=True)]
    counts = np.array([len(cut) for cut in cuts])
    rows = np.repeat(np.arange(len(starts)), counts)
    first = np.concatenate(cuts) + rows * window
    lengths = np.diff(first, append=tokens.size)
    return pieces.Pieces(tokens=tokens.ravel(), lengths=lengths, rows=rows, count=len(starts))
