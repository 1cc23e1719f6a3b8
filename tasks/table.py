"""A finite SeqIO task or mixture in memory, as flat arrays. Imports TensorFlow."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from tasks import pieces, provider, quiet, specials


@dataclasses.dataclass(frozen=True, kw_only=True)
class Column:
    """One feature of all examples.

    Attributes:
        values: [N] int32, one example behind another.
        ends: [examples] int64, where each ends.
    """

    values: np.ndarray
    ends: np.ndarray

    def take(self, index: np.ndarray) -> pieces.Pieces:
        """Returns these examples, one a row; -1 is an empty row."""
        lengths = np.where(index < 0, 0, self.lengths[index])
        start = (self.ends - self.lengths)[index]
        at = np.repeat(start - (np.cumsum(lengths) - lengths), lengths) + np.arange(lengths.sum())
        return pieces.Pieces(tokens=self.values[at], lengths=lengths, rows=np.arange(len(index)), count=len(index))

    @property
    def lengths(self) -> np.ndarray:
        """[examples] int64."""
        return np.diff(self.ends, prepend=0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """The examples of one split, task after task.

    Attributes:
        names: of the tasks.
        rates: of the tasks in the mixture.
        counts: [tasks] examples of each.
        inputs: what is read.
        targets: what is wanted.
        extras: the other features of each example, such as 'targets_pretokenized'; text as str.
        specials: special ids of what is read.
        spell: from ids of the targets' vocabulary to text, up to the first end of sequence.
        fingerprint: of its vocabulary, None where it is unknown.
    """

    names: tuple[str, ...]
    rates: tuple[float, ...]
    counts: np.ndarray
    inputs: Column
    targets: Column
    extras: list[dict[str, Any]]
    specials: specials.Specials
    spell: Callable[[Any], str]
    fingerprint: str | None


def load(
    name: str, modules: tuple[str, ...], split: str, lengths: tuple[tuple[str, int], ...], limit: int | None
) -> Table:
    """Returns a task or mixture, read once, in the tasks' own order; those of a mixture without the split are left out.

    Args:
        name: in SeqIO's registry.
        modules: to import first.
        split: of the tasks.
        lengths: (feature, length) to trim features to.
        limit: of each task at most so many examples, from the first; None for all.

    Raises:
        ValueError: no such task or split, no examples, or features other than 'inputs' and 'targets'.
    """
    with quiet.silence():  # SentencePiece, inside TensorFlow, tells how it normalises
        return _read(provider.open(name, modules), split, lengths, limit)


# Kept by the task itself, not by its name: a name may be registered anew.
@functools.lru_cache(maxsize=8)
def _read(found: Any, split: str, lengths: tuple[tuple[str, int], ...], limit: int | None) -> Table:
    name = found.name
    missing = {"inputs", "targets"} - set(found.output_features)
    if missing:
        have = sorted(found.output_features)
        raise ValueError(f"SeqIO task {name!r} has the features {have}, not {sorted(missing)}: Examples needs both")
    there = [(task, rate) for task, rate in provider.rates(found) if split in task.splits]
    if not there:
        provider.split(found, split)
    columns: dict[str, list[np.ndarray]] = {"inputs": [], "targets": []}
    extras, counts, names, rates = [], [], [], []
    for task, rate in there:
        data = task.get_dataset(sequence_length=dict(lengths), split=split, shuffle=False, num_epochs=1, seed=0)
        before = len(extras)
        for example in (data if limit is None else data.take(limit)).as_numpy_iterator():
            for key, column in columns.items():
                column.append(np.atleast_1d(example[key]).astype(np.int32))
            extras.append({key: _plain(value) for key, value in example.items() if key not in columns})
        if len(extras) == before:
            raise ValueError(f"SeqIO task {task.name!r} has no examples in split {split!r}: choose another split")
        counts.append(len(extras) - before)
        names.append(task.name)
        rates.append(rate)
    return Table(
        names=tuple(names),
        rates=tuple(rates),
        counts=np.array(counts),
        extras=extras,
        specials=provider.special(found),
        spell=_speller(found.output_features["targets"].vocabulary),
        fingerprint=provider.fingerprint(found),
        **{key: _column(column) for key, column in columns.items()},
    )


def _speller(vocabulary: Any) -> Callable[[Any], str]:
    def spell(ids: Any) -> str:
        read = [int(each) for each in ids]
        return vocabulary.decode(read[: read.index(vocabulary.eos_id)] if vocabulary.eos_id in read else read)

    return spell


def _column(examples: list[np.ndarray]) -> Column:
    return Column(values=np.concatenate(examples), ends=np.cumsum([len(example) for example in examples]))


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, np.ndarray) and value.dtype == object:
        return [_plain(part) for part in value.tolist()]
    return value
