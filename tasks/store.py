"""Reading a token store: tokens and document offsets on disk or in a bucket, through numpy and TensorStore alone.

    DIR/vocabulary.json  DIR/<part>/{tokens,offsets,manifest.json}  DIR/<part>.validation/...

Nothing here imports TensorFlow or SeqIO; `tasks.tokenize` builds a store and `tasks.writer` writes one part.
"""

import os
from collections.abc import Iterator, Sequence

import numpy as np
import tensorstore

from tasks import card, layout, manifest, offsets, place


class Part:
    """One part of a store: a stream of tokens, circular, cut into documents.

    Attributes:
        name: the part's name.
        split: 'train' or the name of a held-out share.
        manifest: what it says of itself.
        tokens: length of the stream.
        documents: number of documents.
    """

    def __init__(self, where: place.Place, found: manifest.Manifest):
        """Opens the arrays that `found` describes; `open` is the way in, it checks them."""
        self._where = where
        self.manifest = found
        self.name, self.split = found.part, found.split
        self.tokens, self.documents = found.tokens, found.documents
        try:
            self._tokens = layout.open(where, layout.TOKENS)
            array = layout.open(where, layout.OFFSETS)
            self._check(array)
            self._offsets = offsets.Offsets(array)
        except (ValueError, OSError, RuntimeError, TypeError) as error:
            raise self._damaged(error) from None

    def read(self, starts: Sequence[int] | np.ndarray, length: int) -> list[np.ndarray]:
        """Reads one window of tokens at each start, all at once.

        Args:
            starts: positions in the stream, modulo its length; behind the last document the first follows.
            length: tokens in a window, which may be longer than the stream.

        Returns:
            [length] int32 for each start.

        Raises:
            ValueError: the store cannot be read there any more, or its bytes have changed.
        """
        with tensorstore.Batch() as batch:
            reads = [
                [self._tokens[low:high].read(batch=batch) for low, high in self._spans(int(start), length)]
                for start in starts
            ]
        try:
            windows = [[read.result() for read in parts] for parts in reads]
        except (ValueError, OSError, RuntimeError) as error:
            raise self._damaged(error) from None
        return [np.concatenate(parts).astype(np.int32) for parts in windows]

    def pieces(self, start: int, length: int) -> np.ndarray:
        """Returns where the window [start, start + length) is cut at document borders.

        Returns:
            [pieces + 1] int64, from 0 to `length`: piece k of the window is window[cuts[k]:cuts[k + 1]]. The first and
            the last piece may be parts of longer documents.

        Raises:
            ValueError: the store cannot be read there any more.
        """
        cuts, done = [np.zeros(1, np.int64)], 0
        try:
            for low, high in self._spans(int(start), length):
                # Where the stream starts over, a document begins too.
                if done:
                    cuts.append(np.array([done], np.int64))
                cuts.append(self._offsets.between(low, high) - low + done)
                done += high - low
        except (OSError, RuntimeError) as error:
            raise self._damaged(error) from None
        return np.concatenate([*cuts, np.array([length], np.int64)])

    def windows(self, starts: Sequence[int] | np.ndarray, length: int) -> list[list[np.ndarray]]:
        """Returns each window of `read` as its list of pieces, int32 arrays that add up to `length` tokens."""
        rows = []
        for start, window in zip(starts, self.read(starts, length), strict=True):
            cuts = self.pieces(start, length).tolist()
            rows.append([window[low:high] for low, high in zip(cuts, cuts[1:], strict=False)])
        return rows

    def between(self, first: int, last: int) -> list[np.ndarray]:
        """Returns the documents `first` to `last` - 1 whole, EOS included, int32."""
        low, high = self._offsets.at(first)[0], self._offsets.at(last - 1)[1]
        return self.windows([low], high - low)[0]

    def verify(self) -> None:
        """Reads every byte and compares it with the digest.

        Raises:
            ValueError: the tokens or offsets are not those that were written.
        """
        try:
            found = layout.digest(self._tokens, layout.open(self._where, layout.OFFSETS))
        except (ValueError, OSError, RuntimeError) as error:
            raise self._damaged(error) from None
        if found != self.manifest.digest:
            raise self._damaged(f"its digest is {found[:12]}, its manifest says {self.manifest.digest[:12]}")

    def __reduce__(self):
        """Travels to another process as its path."""
        return _reopen, (self._where, self.manifest)

    def _spans(self, start: int, length: int) -> Iterator[tuple[int, int]]:
        start %= self.tokens
        while length > 0:
            stop = min(start + length, self.tokens)
            yield start, stop
            length -= stop - start
            start = 0

    def _check(self, array: tensorstore.TensorStore) -> None:
        found = {"tokens": self._tokens.shape[0], "documents": array.shape[0] - 1, "dtype": self._tokens.dtype.name}
        said = {name: getattr(self.manifest, name) for name in found}
        if found != said:
            raise ValueError(f"its arrays have {found}, its manifest says {said}")
        sizes = self._where.sizes(self.manifest.files)
        for name, size in self.manifest.files.items():
            if sizes[name] is None:
                raise ValueError(f"{name} is missing")
            if size is not None and sizes[name] not in (size, place.UNKNOWN):
                raise ValueError(f"{name} has {sizes[name]} bytes, its manifest says {size}")
        if layout.probe(self._tokens, array) != self.manifest.probe:
            raise ValueError("its tokens or offsets are not those that the manifest was written for")

    def _damaged(self, error: object) -> ValueError:
        reason = " ".join(str(error).split())[:300]
        command = self.manifest.source.get("command", "baton store")
        return ValueError(
            f"store {self._where} is damaged: {reason}: restore it or build it again with `{command} --overwrite`"
        )


def vocabulary(directory: str | os.PathLike[str]) -> card.Card:
    """Returns the card of a store's vocabulary.

    Raises:
        ValueError: `directory` is not a store.
    """
    found = card.read(str(directory))
    if found is None:
        raise ValueError(f"{directory} has no vocabulary.json: it is not a store, build one with `baton store`")
    return found


def parts(directory: str | os.PathLike[str], *, split: str = "train") -> tuple[str, ...]:
    """Returns the names of the finished parts of a store that have this split, sorted."""
    found = []
    for key in place.Place(str(directory)).keys():
        folder, _, file = key.partition("/")
        name, _, other = folder.partition(".")
        if file == manifest.FILE and (other or "train") == split:
            found.append(name)
    return tuple(sorted(found))


def open(directory: str | os.PathLike[str], part: str, *, split: str = "train", fingerprint: str | None = None) -> Part:
    """Opens a part of a store, after cheap checks: vocabulary, sizes, both ends of the arrays.

    Args:
        directory: the store, on disk or gs://.
        part: a name that `parts` gives.
        split: 'train' or the name of a held-out share.
        fingerprint: the vocabulary's that the caller goes on with; None takes the store's own.

    Raises:
        ValueError: no such part, unfinished, of another vocabulary, or changed since it was built.
    """
    where = place.Place(str(directory)) / layout.folder(part, split)
    own = vocabulary(directory).fingerprint
    values = where.read_json(manifest.FILE)
    if values is None:
        have = ", ".join(parts(directory, split=split)) or "none"
        raise ValueError(
            f"store {directory} has no finished part {part!r} of split {split!r} (finished: {have}): "
            "build it with `baton store`, the same command also finishes an interrupted one"
        )
    found = manifest.Manifest.from_json(values, where=f"{where}/{manifest.FILE}")
    for name, print_ in (("this run", fingerprint), ("the store", own)):
        if print_ is not None and print_ != found.vocabulary:
            raise ValueError(
                f"store {where} was built with the vocabulary {found.vocabulary[:12]} but {name} has {print_[:12]}: "
                "use that vocabulary or build another store with `baton store`"
            )
    return Part(where, found)


def _reopen(where: place.Place, found: manifest.Manifest) -> Part:
    return Part(where, found)
