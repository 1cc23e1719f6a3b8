"""A corrupted corpus on disk or in a bucket: three parts of a token store, which hold rows in the order of training.

    DIR/vocabulary.json  DIR/<split>.read  DIR/<split>.originals  DIR/<split>.rows

`rows` is finished last and opened first, so that an interrupted one never passes for a store. While it is written,
finished chunks of rows lie in DIR/<split>.building, and the same command goes on behind them.
"""

import os
from typing import Any

import numpy as np

from tasks import batches, card, corrupted_rows, layout, manifest, place, store, writer

READ, ORIGINALS, ROWS = "read", "originals", "rows"
PLAN = "plan.json"
COMMAND = "baton corrupt"


class Store:
    """Rows of a corrupted corpus.

    Attributes:
        rows: how many.
        about: what was written into it: 'inputs' and 'targets' (places and target slots of a row), 'parts' (names of
            the blend's), 'digest', and what `baton corrupt` tells of the auxiliary.
    """

    def __init__(self, directory: str, split: str):
        """Opens the three parts; `open` is the way in."""
        self._records = store.open(directory, split, split=ROWS)
        self._read, self._originals = (store.open(directory, split, split=side) for side in (READ, ORIGINALS))
        self._pad = store.vocabulary(directory).specials.pad
        self.rows, self.about = self._records.documents, self._records.manifest.source
        for part in (self._read, self._originals):
            if part.manifest.source != self.about or part.tokens != self.rows * self.about["inputs"]:
                raise ValueError(
                    f"store {directory}: {split}.{part.split} is of another corruption than {split}.{ROWS}: "
                    f"restore it or write it again with `{COMMAND} --overwrite`"
                )

    def batch(self, numbers: np.ndarray) -> batches.Batch:
        """Returns the batch of these rows [R]; behind the last row the first follows.

        Raises:
            ValueError: the store is damaged there.
        """
        at, length = numbers % self.rows, int(self.about["inputs"])
        records: list[np.ndarray] = []
        for run in np.split(at, np.flatnonzero(np.diff(at) != 1) + 1):
            records += self._records.between(int(run[0]), int(run[-1]) + 1)
        starts = at * length
        found = corrupted_rows.Rows(
            read=np.stack(self._read.read(starts, length)),
            originals=np.stack(self._originals.read(starts, length)),
            lengths=np.concatenate([np.diff(self._read.pieces(start, length)) for start in starts.tolist()]),
            records=records,
        )
        return found.batch(masked=int(self.about["targets"]), pad=self._pad)

    def verify(self) -> None:
        """Reads every byte and compares it with the digests; raises ValueError."""
        for part in (self._records, self._read, self._originals):
            part.verify()


def finished(directory: str | os.PathLike[str], split: str) -> dict[str, Any] | None:
    """Returns what the finished corruption of a split says of itself, None where there is none."""
    return ((place.Place(str(directory)) / layout.folder(split, ROWS)).read_json(manifest.FILE) or {}).get("source")


def open(directory: str | os.PathLike[str], split: str) -> Store:
    """Opens a corrupted split, after cheap checks of sizes and of both ends of the arrays.

    Raises:
        ValueError: there is none, it is unfinished, or damaged.
    """
    if finished(directory, split) is None:
        raise ValueError(
            f"{directory} holds no finished corrupted text of split {split!r}: write it with `{COMMAND}`, the same "
            "command also finishes an interrupted one"
        )
    return Store(str(directory), split)


class Writer:
    """Writes a corrupted split: chunks of rows in order, then the three parts."""

    def __init__(self, directory: str | os.PathLike[str], split: str, *, vocabulary: str, about: dict[str, Any]):
        """Goes on behind the chunks of an interrupted writer with the same `about`, and forgets those of another.

        Args:
            directory: the store to be.
            split: 'train', or the name of a held-out share.
            vocabulary: the token store whose vocabulary this is.
            about: see `Store`; beside it 'description'.
        """
        self._root, self._from, self._split, self._about = str(directory), vocabulary, split, about
        self._card = store.vocabulary(vocabulary)
        self._chunks = place.Place(self._root) / layout.folder(split, "building")
        if self._chunks.read_json(PLAN) != about:
            self._chunks.delete()
            self._chunks.write_json(PLAN, about)
        there = self._chunks.keys()
        self.done = next(number for number in range(len(there) + 1) if _name(number) not in there)
        """Chunks that are there."""

    def put(self, rows: corrupted_rows.Rows) -> None:
        """Writes the next chunk, whole or not at all."""
        self._chunks.write(_name(self.done), rows.to_bytes())
        self.done += 1

    def close(self) -> None:
        """Joins the chunks into the three parts, then deletes them."""
        _settle(self._root, self._from, self._card)
        (place.Place(self._root) / layout.folder(self._split, ROWS)).delete_file(manifest.FILE)
        documents, records, length = 0, 0, int(self._about["inputs"])
        count = 0
        for rows in map(self._chunk, range(self.done)):
            documents += len(rows.lengths)
            records += sum(map(len, rows.records))
            count += len(rows.records)
        size = self._card.specials.size
        ids, wide = layout.dtype(size), layout.dtype(max(size, length + 1, len(self._about["parts"])))
        sides = {
            side: self._part(side, tokens=count * length, documents=documents, dtype=ids) for side in (READ, ORIGINALS)
        }
        kept = self._part(ROWS, tokens=records, documents=count, dtype=wide)
        for rows in map(self._chunk, range(self.done)):
            for side, part in sides.items():
                part.append(getattr(rows, side).ravel().astype(ids), rows.lengths)
            lengths = np.array([len(record) for record in rows.records])
            kept.append(np.concatenate(rows.records).astype(wide), lengths)
        for side, part in (*sides.items(), (ROWS, kept)):
            part.close(
                part=self._split,
                split=side,
                vocabulary=self._card.fingerprint,
                source=self._about,
                characters=0,
                bytes=0,
            )
        self._chunks.delete()

    def _chunk(self, number: int) -> corrupted_rows.Rows:
        return corrupted_rows.Rows.from_bytes(self._chunks.read(_name(number)) or b"")

    def _part(self, side: str, **sizes: Any) -> writer.Writer:
        return writer.Writer(place.Place(self._root) / layout.folder(self._split, side), **sizes)


def check(
    directory: str | os.PathLike[str], split: str, about: dict[str, Any], *, vocabulary: str, overwrite: bool
) -> bool:
    """Returns whether a split is finished already, as `about` says.

    Raises:
        ValueError: the directory has another vocabulary than the token store `vocabulary`; or what is there of the
            split, finished or not, is of something else, unless it may be overwritten.
    """
    own, there = store.vocabulary(vocabulary), card.read(str(directory))
    if there is not None and there.fingerprint != own.fingerprint:
        raise ValueError(
            f"store {directory} has the vocabulary {there.fingerprint[:12]}, {vocabulary} has {own.fingerprint[:12]}: "
            "write to another directory"
        )
    begun = (place.Place(str(directory)) / layout.folder(split, "building")).read_json(PLAN)
    found = finished(directory, split)
    for other in (found, begun):
        if other is not None and other["digest"] != about["digest"] and not overwrite:
            raise ValueError(
                f"store {directory}, split {split!r}, is of {other['description']} ({other['digest'][:12]}), now asked "
                f"for is {about['description']} ({about['digest'][:12]}): write to another directory, or replace it "
                "with --overwrite"
            )
    return found is not None and found["digest"] == about["digest"]


def _settle(directory: str, vocabulary: str, own: card.Card) -> None:
    """Copies a token store's vocabulary."""
    if own.file:
        place.Place(directory).write(own.file, place.Place(vocabulary).read(own.file) or b"")
    own.write(directory)


def _name(number: int) -> str:
    return f"{number:06d}.npz"
