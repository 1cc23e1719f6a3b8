"""Rows that a model has corrupted, as a store holds them: two streams of tokens, their documents, a record of each row.

Shapes: R rows of L places, M target slots, D documents. A row is L tokens of both streams, padding included; its
segments are documents, and padding is a document of its own. A record is the row's part of the blend, how many tokens
aren't padding, and the places that were masked.
"""

import dataclasses
import io
from collections.abc import Sequence

import numpy as np

from tasks import batches, pieces

HEAD = 2
"""Numbers of a record before the places."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rows:
    """R rows.

    Attributes:
        read: [R, L] int32, what the main encoder reads.
        originals: [R, L] int32, what stood there.
        lengths: [D] int64, of the documents one behind another; every row begins one.
        records: R arrays of int64.
    """

    read: np.ndarray
    originals: np.ndarray
    lengths: np.ndarray
    records: Sequence[np.ndarray]

    @classmethod
    def of(cls, batch: batches.Batch, *, read: np.ndarray, pad: int) -> "Rows":
        """Returns the rows of a batch of masked language modelling, of which the main encoder reads `read` [R, L].

        Raises:
            ValueError: a row can't be told from what is kept of it.
        """
        segments, used = batch["encoder_segments"], batch["weights"] > 0
        originals = read.copy()
        at = np.nonzero(used)[0], batch["target_positions"][used]
        originals[at] = batch["targets"][used]
        first = np.ones(segments.shape, bool)
        first[:, 1:] = segments[:, 1:] != segments[:, :-1]
        heads = np.stack([batch["part"], (segments > 0).sum(axis=1)], axis=1)
        records = [
            np.concatenate([head, places[kept]]).astype(np.int64)
            for head, places, kept in zip(heads, batch["target_positions"], used, strict=True)
        ]
        starts = np.flatnonzero(first.ravel())
        made = cls(
            read=read, originals=originals, lengths=np.diff(starts, append=first.size).astype(np.int64), records=records
        )
        again = made.batch(masked=used.shape[1], pad=pad)
        for name, value in {**batch, "encoder_inputs": read}.items():
            if name not in again or not np.array_equal(value, again[name]):
                raise ValueError(
                    f"rows whose {name} don't follow from their tokens, segments and targets can't be kept in a store: "
                    "segments are numbered from 1 with positions from 0, padding comes last, weights are 0 or 1"
                )
        return made

    def batch(self, *, masked: int, pad: int) -> batches.Batch:
        """Returns the batch of the contract, with `masked` target slots, and `encoder_inputs` as corrupted."""
        count, length = self.read.shape
        starts = np.cumsum(self.lengths) - self.lengths
        used = np.array([record[1] for record in self.records])
        real = starts % length < used[starts // length]
        found = pieces.Pieces(
            tokens=self.read[np.arange(length)[None, :] < used[:, None]].astype(np.int32),
            lengths=self.lengths[real],
            rows=starts[real] // length,
            count=count,
        )
        places, weights = np.zeros((count, masked), np.int32), np.zeros((count, masked), np.float32)
        for row, record in enumerate(self.records):
            places[row, : len(record) - HEAD] = record[HEAD:]
            weights[row, : len(record) - HEAD] = 1
        answers = np.take_along_axis(self.originals, places, axis=1)
        return {
            **batches.encoder(found, length, pad=pad),
            "target_positions": places,
            "targets": np.where(weights > 0, answers, pad).astype(np.int32),
            "weights": weights,
            "part": np.array([record[0] for record in self.records], np.int32),
        }

    def to_bytes(self) -> bytes:
        """Returns the rows as one file."""
        file = io.BytesIO()
        flat = np.concatenate(self.records)
        counts = np.array([len(record) for record in self.records])
        np.savez(file, read=self.read, originals=self.originals, lengths=self.lengths, records=flat, counts=counts)
        return file.getvalue()

    @classmethod
    def from_bytes(cls, contents: bytes) -> "Rows":
        """Inverse of `to_bytes`."""
        with np.load(io.BytesIO(contents)) as found:
            values = dict(found)
        records = np.split(values.pop("records"), np.cumsum(values.pop("counts"))[:-1])
        return cls(**values, records=records)

    @classmethod
    def join(cls, several: Sequence["Rows"]) -> "Rows":
        """Returns rows one behind another."""
        names = ("read", "originals", "lengths")
        arrays = {name: np.concatenate([getattr(rows, name) for rows in several]) for name in names}
        return cls(**arrays, records=[record for rows in several for record in rows.records])
