"""Which pieces of an old vocabulary stand for each piece of a new one."""

import dataclasses
from collections.abc import Iterable

import numpy as np

from tasks import encoder


@dataclasses.dataclass(frozen=True, kw_only=True)
class Match:
    """For each id of the new vocabulary, ids of the old one whose mean stands for it.

    Attributes:
        sources: one array of old ids for each new id, empty where nothing stands for it.
        shared: how many new ids are a piece, or a special of the same role, of the old vocabulary too.
        spelt: how many are spelt by several pieces of the old one.
        unknown: how many are neither.
    """

    sources: tuple[np.ndarray, ...]
    shared: int
    spelt: int
    unknown: int

    def rows(self, table: np.ndarray, count: int) -> np.ndarray:
        """Returns [count, ...] of the old table [old ids or more, ...].

        A shared piece has its old row, another the mean of those of its old pieces. What nothing stands for, and what
        lies behind the new vocabulary, has the mean of all the old vocabulary's rows.
        """
        made = np.empty((count, *table.shape[1:]), table.dtype)
        made[:] = table.mean(axis=0)
        for new, old in enumerate(self.sources):
            if len(old):
                made[new] = table[old[0]] if len(old) == 1 else table[old].mean(axis=0)
        return made


def match(old: encoder.Encoder, new: encoder.Encoder) -> Match:
    """Returns what of the old vocabulary stands for each id of the new one.

    Specials answer each other by role. Other pieces are compared as the text that they add behind a word, so that
    '▁the', 'Ġthe' and a WordPiece 'the' are one. What the old vocabulary hasn't, it spells (Gee et al. 2022,
    https://arxiv.org/abs/2402.09977, begin new rows with such means).
    """
    roles, wanted = old.specials.named(), new.specials.named()
    answers = {wanted[role]: roles[role] for role in wanted if role in roles}
    surfaces = _surfaces(new)
    known = {text: index for index, text in reversed(_surfaces(old).items())}
    left = [text for index, text in surfaces.items() if text not in known]
    spelling = dict(zip(left, _spell(old, left), strict=True))
    sources = []
    shared = spelt = 0
    for index in range(new.specials.size):
        text = surfaces.get(index)
        same = answers.get(index, None if text is None else known.get(text))
        if same is not None:
            found = np.array([same])
            shared += 1
        else:
            found = np.zeros(0, int) if text is None else spelling[text]
            spelt += len(found) > 0
        sources.append(found)
    size = new.specials.size
    return Match(sources=tuple(sources), shared=shared, spelt=spelt, unknown=size - shared - spelt)


def _surfaces(of: encoder.Encoder) -> dict[int, str]:
    """The text that each ordinary piece adds behind a word; a piece of half a character goes by its name."""
    special = set(of.specials.named().values())
    ordinary = [index for index in range(of.specials.size) if index not in special]
    anchor = _anchor(of, ordinary)
    before = of.decode([anchor])
    found = {}
    for index in ordinary:
        text = of.decode([anchor, index])
        whole = text.startswith(before) and len(text) > len(before) and "\ufffd" not in text
        found[index] = text[len(before) :] if whole else of.piece(index)
    return found


def _anchor(of: encoder.Encoder, ordinary: Iterable[int]) -> int:
    """A piece that is a word or a letter: behind it, others show whether a space comes before them."""
    for index in ordinary:
        if of.decode([index]).isalnum():
            return index
    raise ValueError(f"{of.path} has no piece of letters or digits alone; it can't be compared with another vocabulary")


def _spell(of: encoder.Encoder, texts: list[str]) -> list[np.ndarray]:
    """The pieces that spell each text, behind a word where that is cut off cleanly; none with UNK among them."""
    special = of.specials
    anchor = of.decode([_anchor(of, set(range(special.size)) - set(special.named().values()))])
    (before,) = of.encode([anchor])
    anchored, alone = of.encode([anchor + text for text in texts]), of.encode(texts)
    found = []
    for behind, plain in zip(anchored, alone, strict=True):
        clean = len(behind) > len(before) and np.array_equal(behind[: len(before)], before)
        ids = behind[len(before) :] if clean else plain
        found.append(np.zeros(0, int) if special.unk is not None and special.unk in ids else np.asarray(ids, int))
    return found
