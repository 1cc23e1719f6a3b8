"""Text to ids without TensorFlow: what the processes that build a store run, equal to the SeqIO vocabularies."""

import abc
import hashlib
import os
import re
from collections.abc import Mapping, Sequence

import numpy as np

from tasks import card, place, specials

BYTES = "bytes"
MASK, DOC = "[MASK]", "[DOC]"
MODES = {"R": "[R]", "S": "[S]", "X": "[X]"}

# ByT5 (https://arxiv.org/abs/2105.13626) rounds 3 specials and 256 bytes up to 384 ids. We name the last hundred
# sentinels, as T5 does, and give the first of the others to mask, document separator and modes.
BYTE_EXTRAS = 125
_BYTE_SENTINELS = 100
_BYTE_FIRST = 3


class Encoder(abc.ABC):
    """A vocabulary that turns text into ids; `vocabulary.encoder` opens one.

    Attributes:
        path: the vocabulary's file, or 'bytes'.
        card: kind, special ids and fingerprint.
    """

    def __init__(self, path: str, found: card.Card):
        """Takes what the subclass has found."""
        self.path = path
        self.card = found

    @property
    def specials(self) -> specials.Specials:
        """Ids with a meaning."""
        return self.card.specials

    @property
    def fingerprint(self) -> str:
        """Digest of everything that decides the ids."""
        return self.card.fingerprint

    @abc.abstractmethod
    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Returns the ids of each text, int32, without EOS."""

    @abc.abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """Returns the text of ids; specials appear by name or not at all, as the vocabulary has it."""

    @abc.abstractmethod
    def piece(self, index: int) -> str:
        """Returns the name of an id: '▁the', '<0x0A>', '[MASK]', '<extra_id_0>'."""

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Copies the file and its card into `directory`, on disk or in a bucket."""
        if self.card.file:
            place.Place(str(directory)).write(self.card.file, contents(self.path))
        self.card.write(str(directory))


class Bytes(Encoder):
    """UTF-8 bytes behind pad, EOS and UNK, as in seqio.ByteVocabulary."""

    def __init__(self, *, extra_ids: int = BYTE_EXTRAS):
        """Names the ids behind the bytes: the last hundred are sentinels; mask, doc and modes come before them."""
        first = _BYTE_FIRST + 256
        size = first + extra_ids
        names = ("mask", "doc", *MODES)
        others = dict(zip(names, range(first, max(first, size - _BYTE_SENTINELS)), strict=False))
        found = specials.Specials(
            size=size,
            mask=others.get("mask"),
            doc=others.get("doc"),
            sentinels=tuple(range(size - 1, max(first, size - _BYTE_SENTINELS) - 1, -1)),
            modes={name: others[name] for name in MODES if name in others},
        )
        text = f"bytes {extra_ids} {sorted(found.named().items())}"
        super().__init__(
            BYTES,
            card.Card(
                kind=BYTES,
                file=None,
                extra_ids=extra_ids,
                fingerprint=hashlib.sha256(text.encode()).hexdigest(),
                specials=found,
            ),
        )

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Returns the ids of each text, int32, without EOS."""
        return [np.frombuffer(text.encode(), np.uint8).astype(np.int32) + _BYTE_FIRST for text in texts]

    def decode(self, ids: Sequence[int]) -> str:
        """Returns the text of ids, specials and broken characters left out."""
        known = [int(i) - _BYTE_FIRST for i in ids if _BYTE_FIRST <= i < _BYTE_FIRST + 256]
        return bytes(known).decode(errors="ignore")

    def piece(self, index: int) -> str:
        """Returns '<0x61>' for a byte and the special's name for another id."""
        if _BYTE_FIRST <= index < _BYTE_FIRST + 256:
            return f"<0x{index - _BYTE_FIRST:02X}>"
        return special_piece(self.specials, index) or f"<{index}>"


def special_piece(found: specials.Specials, index: int) -> str | None:
    """Returns the usual spelling of a special id, None for an ordinary one."""
    spelt = {"pad": "<pad>", "eos": "</s>", "unk": "<unk>", "mask": MASK, "doc": DOC}
    for name, i in found.named().items():
        if i == index and name != "start":
            kind, _, rest = name.partition(" ")
            return spelt.get(name) or (f"<extra_id_{rest}>" if kind == "sentinel" else MODES.get(rest, f"[{rest}]"))
    return None


def sentinels(ids: Mapping[str, int]) -> tuple[int, ...]:
    """Returns the ids of '<extra_id_0>', '<extra_id_1>', ... in that order, which is T5's order of use."""
    found = {}
    for piece, i in ids.items():
        matched = re.fullmatch(r"▁?<extra_id_(\d+)>", piece)
        if matched:
            found[int(matched[1])] = i
    return tuple(found[number] for number in sorted(found))


def contents(path: str) -> bytes:
    """Returns a vocabulary's file.

    Raises:
        ValueError: there is none.
    """
    directory, name = os.path.split(str(path))
    found = place.Place(directory or ".").read(name)
    if found is None:
        raise ValueError(f"vocabulary {path} does not exist: give a .model or .json file, a directory or {BYTES!r}")
    return found
