"""Text and token stores as SeqIO data sources. Imports TensorFlow."""

import abc
from collections.abc import Iterator
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from tasks import holdout, sources, store

# Documents of a store that are read, and shuffled, together.
_BLOCK = 256


class _Streamed(seqio.DataSource):
    """A source of examples that Python yields, split into shards that hosts may read apart."""

    def __init__(self, splits: tuple[str, ...], spec: dict[str, tf.TensorSpec], sizes: dict[str, int] | None = None):
        super().__init__(splits=splits, num_input_examples=sizes)
        self._spec = spec

    @property
    def supports_arbitrary_sharding(self) -> bool:
        """Whether any number of shards can be asked for."""
        return False

    @abc.abstractmethod
    def _shards(self, split: str) -> tuple[Any, ...]:
        """Returns what `_examples` takes, one for each shard."""

    @abc.abstractmethod
    def _examples(self, shard: Any, split: str) -> Iterator[dict[str, Any]]:
        """Yields the examples of a shard."""

    def list_shards(self, split: str) -> list[str]:
        """Returns a name for each shard."""
        return [f"{split}-{number}" for number in range(len(self._shards(split)))]

    def get_dataset(
        self,
        split: str = "train",
        shuffle: bool = True,
        seed: int | None = None,
        shard_info: seqio.ShardInfo | None = None,
        *,
        sequence_length: Any = None,
        use_cached: bool = False,
        num_epochs: int | None = 1,
    ) -> tf.data.Dataset:
        """Returns the examples of one split, or of this host's share of its shards.

        Args:
            split: 'train' or the name of the held-out share.
            shuffle: whether the order of the shards is drawn.
            seed: of that order.
            shard_info: which share of the shards to read.
            sequence_length: not used.
            use_cached: not used.
            num_epochs: not used.
        """
        if split not in self.splits:
            raise ValueError(f"{self!r} has no split {split!r}: choose from {', '.join(self.splits)}")
        shards = self._shards(split)
        if shard_info is not None:
            if shard_info.num_shards > len(shards):
                raise ValueError(f"{self!r} has {len(shards)} shards, not {shard_info.num_shards}: ask for fewer")
            shards = shards[shard_info.index :: shard_info.num_shards]
        order = np.random.default_rng(seed).permutation(len(shards)) if shuffle else range(len(shards))

        def examples() -> Iterator[dict[str, Any]]:
            for number in order:
                yield from self._examples(shards[number], split)

        return tf.data.Dataset.from_generator(examples, output_signature=self._spec)


class Documents(_Streamed):
    """A text source: examples {'text': string}; a shard is a file."""

    def __init__(self, source: sources.Source, *, held: holdout.Holdout):
        """Wraps a source; with a share held out there is a second split."""
        super().__init__(("train", held.split) if held.share else ("train",), {"text": tf.TensorSpec([], tf.string)})
        self._source = source
        self._held = held

    def __repr__(self) -> str:
        """Returns what the source is."""
        return self._source.description

    def _shards(self, split: str) -> tuple[sources.Source, ...]:
        return self._source.shards()

    def _examples(self, shard: sources.Source, split: str) -> Iterator[dict[str, Any]]:
        for text in shard.documents():
            if self._held.holds(text) == (split == self._held.split):
                yield {"text": text}


class Stored(_Streamed):
    """Parts of a token store: examples {'tokens': [length] int32}, EOS included; a shard is a run of documents."""

    def __init__(self, parts: dict[str, store.Part]):
        """Takes one part for each split."""
        sizes = {split: part.documents for split, part in parts.items()}
        super().__init__(tuple(parts), {"tokens": tf.TensorSpec([None], tf.int32)}, sizes)
        self._parts = parts

    def __repr__(self) -> str:
        """Returns which part it is."""
        return f"store part {next(iter(self._parts.values())).name!r}"

    def _shards(self, split: str) -> tuple[tuple[int, int], ...]:
        documents = self._parts[split].documents
        return tuple((first, min(first + _BLOCK, documents)) for first in range(0, documents, _BLOCK))

    def _examples(self, shard: tuple[int, int], split: str) -> Iterator[dict[str, Any]]:
        return ({"tokens": document} for document in self._parts[split].between(*shard))
