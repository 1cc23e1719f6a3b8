"""What a store's build has finished so far: one file of ids for each slice of a source, and a line about it."""

import dataclasses
import functools
import json
from collections.abc import Iterable

import numpy as np

from tasks import encoder, holdout, place, sources

FOLDER = "building"
PLAN = "plan.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Side:
    """What a chunk holds of one split."""

    documents: int = 0
    tokens: int = 0
    characters: int = 0
    bytes: int = 0

    def __add__(self, other: "Side") -> "Side":
        """Returns the sums."""
        return Side(**{name: value + getattr(other, name) for name, value in dataclasses.asdict(self).items()})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chunk:
    """A finished slice: training documents first, then those held out."""

    train: Side
    held: Side

    def to_bytes(self) -> bytes:
        """Returns the JSON line about it."""
        return json.dumps(dataclasses.asdict(self)).encode()

    @classmethod
    def from_bytes(cls, text: bytes) -> "Chunk":
        """Inverse of `to_bytes`."""
        values = json.loads(text)
        return cls(train=Side(**values["train"]), held=Side(**values["held"]))


class Chunks:
    """The chunks of one part, in order of their numbers. A chunk exists once its line does, which is written last."""

    def __init__(self, where: place.Place, dtype: str):
        """Looks at the folder `building` of the part `where`, whose ids are of `dtype`."""
        self._where = where / FOLDER
        self._dtype = dtype

    def done(self) -> dict[int, Chunk]:
        """Returns the finished chunks by number."""
        numbers = [int(key.removesuffix(".json")) for key in self._where.keys() if key[0].isdigit() and ".json" in key]
        return {number: Chunk.from_bytes(self._where.read(f"{number:06d}.json") or b"") for number in sorted(numbers)}

    def make(self, number: int, part: sources.Slice, spelling: encoder.Encoder, held: holdout.Holdout) -> Chunk:
        """Spells the documents of a slice, with EOS behind each, and writes the chunk.

        Args:
            number: of the slice in the source.
            part: the slice.
            spelling: the vocabulary.
            held: which documents are held out.
        """
        texts = [text for text in part.documents() if text and not text.isspace()]
        sides: tuple[list[tuple[str, np.ndarray]], ...] = ([], [])
        for text, ids in zip(texts, spelling.encode(texts), strict=True):
            # Normalisation may leave nothing of a text.
            if len(ids):
                sides[held.holds(text)].append((text, ids))
        eos = np.array([spelling.specials.eos], np.int32)
        contents: list[bytes] = []
        found: list[Side] = []
        for side in sides:
            lengths = np.array([len(ids) + 1 for _, ids in side], np.int64)
            flat = np.concatenate([eos[:0], *(piece for _, ids in side for piece in (ids, eos))])
            contents += [lengths.tobytes(), flat.astype(self._dtype).tobytes()]
            found.append(
                Side(
                    documents=len(side),
                    tokens=len(flat),
                    characters=sum(len(text) for text, _ in side),
                    bytes=sum(len(text.encode()) for text, _ in side),
                )
            )
        chunk = Chunk(train=found[0], held=found[1])
        self._where.write(f"{number:06d}.ids", b"".join(contents))
        self._where.write(f"{number:06d}.json", chunk.to_bytes())
        return chunk

    def read(self, number: int, chunk: Chunk, *, held: bool) -> tuple[np.ndarray, np.ndarray]:
        """Returns the ids of one split of a chunk, one document behind another, and the length of each.

        Raises:
            ValueError: the chunk's file is missing or cut short.
        """
        contents = self._where.read(f"{number:06d}.ids") or b""
        width = np.dtype(self._dtype).itemsize
        start = 8 * chunk.train.documents + width * chunk.train.tokens if held else 0
        side = chunk.held if held else chunk.train
        middle = start + 8 * side.documents
        stop = middle + width * side.tokens
        if stop > len(contents):
            raise ValueError(f"{self._where}/{number:06d}.ids is cut short: delete the folder and build the part again")
        lengths = np.frombuffer(contents[start:middle], np.int64)
        return np.frombuffer(contents[middle:stop], self._dtype), lengths


def total(found: Iterable[Chunk], *, held: bool | None = None) -> Side:
    """Returns the sums over chunks: of what is held out, of what is not, or of both (None)."""
    chunks = tuple(found)
    train = [chunk.train for chunk in chunks if held is not True]
    others = [chunk.held for chunk in chunks if held is not False]
    return functools.reduce(Side.__add__, [*train, *others], Side())
