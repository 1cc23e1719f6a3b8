"""Writing one part of a token store: whole shards as they fill, the manifest last."""

import hashlib
import importlib.metadata
import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import tensorstore

from tasks import card, layout, manifest, place


class Writer:
    """Writes the arrays of one part, from the first token to the last, in memory bounded by a shard."""

    def __init__(self, where: place.Place, *, tokens: int, documents: int, dtype: str):
        """Deletes what `where` holds, its manifest first, and makes the empty arrays.

        Args:
            where: folder of the part.
            tokens: length of the stream to come.
            documents: number of documents to come.
            dtype: 'uint16' or 'uint32'.
        """
        where.delete_file(manifest.FILE)
        self._where = where
        self._tokens = _Column(layout.create(where, layout.TOKENS, length=tokens, dtype=dtype))
        self._offsets = _Column(layout.create(where, layout.OFFSETS, length=documents + 1, dtype="int64"))
        self._offsets.append(np.zeros(1, np.int64))
        self._end = 0
        self._sizes = (tokens, documents, dtype)

    def append(self, tokens: np.ndarray, lengths: np.ndarray) -> None:
        """Appends documents: their tokens one behind another, and the length of each."""
        self._tokens.append(tokens)
        ends = self._end + np.cumsum(lengths, dtype=np.int64)
        self._offsets.append(ends)
        self._end = int(ends[-1]) if len(ends) else self._end

    def close(
        self, *, part: str, split: str, vocabulary: str, source: dict[str, Any], characters: int, bytes: int
    ) -> manifest.Manifest:
        """Writes what is left, then the manifest.

        Args:
            part: name of the corpus or language.
            split: 'train' or the name of the held-out share.
            vocabulary: its fingerprint.
            source: 'description' and 'digest' at least.
            characters: of the text.
            bytes: of the text.

        Returns:
            The manifest.

        Raises:
            ValueError: other numbers of tokens or documents were appended than announced.
        """
        tokens, documents, dtype = self._sizes
        self._tokens.close()
        self._offsets.close()
        if self._end != tokens:
            raise ValueError(f"store {self._where}: documents end at token {self._end}, {tokens} were announced")
        arrays = [layout.open(self._where, name) for name in (layout.TOKENS, layout.OFFSETS)]
        keys = [f"{name}/{key}" for name in (layout.TOKENS, layout.OFFSETS) for key in (self._where / name).keys()]
        found = manifest.Manifest(
            part=part,
            split=split,
            tokens=tokens,
            documents=documents,
            dtype=dtype,
            vocabulary=vocabulary,
            source=source,
            digest=layout.combine(self._tokens.digest, self._offsets.digest),
            probe=layout.probe(*arrays),
            files={key: None if size == place.UNKNOWN else size for key, size in self._where.sizes(keys).items()},
            characters=characters,
            bytes=bytes,
            created_by={name: importlib.metadata.version(name) for name in ("sentencepiece", "tokenizers")},
        )
        self._where.write_json(manifest.FILE, found.to_json())
        return found


def write(
    directory: str | os.PathLike[str],
    part: str,
    documents: Iterable[Sequence[int] | np.ndarray],
    *,
    vocabulary: card.Card,
    split: str = "train",
    source: str = "written from memory",
) -> manifest.Manifest:
    """Writes a part from documents in memory, and the store's vocabulary.json if it has none.

    Args:
        directory: the store.
        part: name of the part.
        documents: ids of each document, EOS included.
        vocabulary: the card of the vocabulary that made the ids; `card.plain` gives one for made-up ids.
        split: 'train' or the name of the held-out share.
        source: description of where the documents come from.

    Returns:
        The manifest.

    Raises:
        ValueError: no documents, or ids outside the vocabulary, or the store has another vocabulary.
    """
    arrays = [np.asarray(document, np.int64) for document in documents]
    where = place.Place(str(directory)) / layout.folder(part, split)
    size = vocabulary.specials.size
    if not arrays or not all(len(a) and a.min() >= 0 and a.max() < size for a in arrays):
        raise ValueError(f"store {where}: needs documents of at least one id below {size}, got {len(arrays)} documents")
    there = card.read(str(directory))
    if there is None:
        vocabulary.write(str(directory))
    elif there.fingerprint != vocabulary.fingerprint:
        raise ValueError(
            f"store {directory} has the vocabulary {there.fingerprint[:12]}, not {vocabulary.fingerprint[:12]}: "
            "write to another directory"
        )
    tokens = np.concatenate(arrays)
    writer = Writer(where, tokens=len(tokens), documents=len(arrays), dtype=layout.dtype(size))
    writer.append(tokens.astype(layout.dtype(size)), np.array([len(a) for a in arrays]))
    digest = hashlib.sha256(source.encode()).hexdigest()
    return writer.close(
        part=part,
        split=split,
        vocabulary=vocabulary.fingerprint,
        source={"description": source, "digest": digest},
        characters=0,
        bytes=0,
    )


class _Column:
    """An array that grows by whole shards."""

    def __init__(self, array: tensorstore.TensorStore):
        self._array, self.digest = array, hashlib.sha256()
        self._waiting: list[np.ndarray] = []
        self._held = self._written = 0

    def append(self, values: np.ndarray) -> None:
        self._waiting.append(values)
        self._held += len(values)
        while self._held >= layout.SHARD:
            joined = np.concatenate(self._waiting)
            self._write(joined[: layout.SHARD])
            self._waiting = [joined[layout.SHARD :].copy()]
            self._held = len(self._waiting[0])

    def close(self) -> None:
        if self._held:
            self._write(np.concatenate(self._waiting))
        if self._written != self._array.shape[0]:
            raise ValueError(f"{self._written} values were written, {self._array.shape[0]} announced")

    def _write(self, values: np.ndarray) -> None:
        stop = self._written + len(values)
        if stop > self._array.shape[0]:
            raise ValueError(f"{stop} values were appended, {self._array.shape[0]} announced")
        self._array[self._written : stop].write(values).result()
        self.digest.update(layout.little_endian(values))
        self._written = stop
