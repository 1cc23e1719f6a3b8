"""Which sub-word each word of a text begins in, for any vocabulary."""

from collections.abc import Sequence

import numpy as np

from tasks import characters, encoder

IGNORED = -100
"""Label of a position that carries no loss."""

# A space that a vocabulary puts before every text, where it has an id of its own.
_SPACES = ("▁", "Ġ")


def first_subwords(vocabulary: encoder.Encoder, text: str, words: Sequence[str]) -> tuple[np.ndarray, list[int]]:
    """Returns the ids of `text`, int32, and for each word the position of the id that it begins with.

    A word that begins inside a sub-word (together with the word before it) has -1. The vocabulary may normalise: words
    are looked for in what the ids spell, one after the other.

    Raises:
        ValueError: a word is not in the text, or not in this order.
    """
    ids = vocabulary.encode([text])[0]
    # Where each id ends in what is spelt; the first bytes of a character spell nothing yet.
    ends = [len(vocabulary.decode(ids[: count + 1].tolist()).rstrip("\ufffd")) for count in range(len(ids))]
    spelt = vocabulary.decode(ids.tolist())
    positions: list[int] = []
    place = 0
    for word, own in zip(words, vocabulary.encode(list(words)), strict=True):
        surface = vocabulary.decode(own.tolist()).strip()
        at = spelt.find(surface, place)
        if at < 0:
            raise ValueError(f"word {word!r} is not in the rest of {text!r}; give the words of the text in order")
        place = at + len(surface)
        positions.append(_first(ends, at, len(spelt[:at].rstrip())))
    return ids, positions


def _first(ends: Sequence[int], at: int, before: int) -> int:
    """Returns the first id of the word at character `at`, where the word before it ends with character `before`."""
    position = int(np.searchsorted(ends, before)) + 1 if before else 0
    if position and ends[position - 1] > at:
        return -1  # one id spells the end of the word before and the beginning of this one
    # Spaces may have ids of their own; a word's first id may spell nothing yet, as a first byte does.
    while (ends[position - 1] if position else 0) < ends[position] <= at:
        position += 1
    return position


def labels(
    vocabulary: encoder.Encoder, text: str, words: Sequence[str], classes: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the ids of `text` and a label for each: a word's class on its first sub-word, IGNORED elsewhere."""
    ids, positions = first_subwords(vocabulary, text, words)
    found = np.full(len(ids), IGNORED, np.int32)
    for position, label in zip(positions, classes, strict=True):
        if position >= 0:
            found[position] = label
    return ids, found


def words(
    vocabulary: encoder.Encoder, sentences: Sequence[Sequence[str]], *, spaced: bool
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns the ids of each sentence, int32, and for each of its words the position of its first id; all at once.

    With spaces, the ids are those of the words joined by spaces; a word that begins inside an id, or of which the
    vocabulary leaves nothing, has -1. Without spaces, ids would run across words: each word is spelt by itself and the
    space that the vocabulary puts before a text is left out from the second word on; every word that spells anything
    has a position.

    Args:
        vocabulary: any.
        sentences: the words of each.
        spaced: whether the language writes spaces between words.
    """
    if not spaced:
        return _apart(vocabulary, sentences)
    texts = [" ".join(sentence) for sentence in sentences]
    made = []
    for sentence, text, (ids, places) in zip(sentences, texts, characters.spelt(vocabulary, texts), strict=True):
        if not len(ids) or not len(sentence):
            made.append((ids, np.full(len(sentence), -1)))
            continue
        lengths = np.array([len(word) for word in sentence])
        starts = np.cumsum(lengths + 1) - lengths - 1
        positions = np.searchsorted(places[:, 1], starts, side="right")
        begins = places[np.minimum(positions, len(ids) - 1), 0]
        # One id may hold the end of the word before; a word that is normalised away has the next word's id.
        inside = np.array([bool(text[begin:start].strip()) for begin, start in zip(begins, starts)])
        gone = (positions == len(ids)) | (begins >= starts + lengths)
        made.append((ids, np.where(inside | gone, -1, positions)))
    return made


def _apart(vocabulary: encoder.Encoder, sentences: Sequence[Sequence[str]]) -> list[tuple[np.ndarray, np.ndarray]]:
    spelt = iter(vocabulary.encode([word for sentence in sentences for word in sentence]))
    made = []
    for sentence in sentences:
        found = []
        for number in range(len(sentence)):
            ids = next(spelt)
            extra = number and len(ids) > 1 and vocabulary.piece(int(ids[0])) in _SPACES
            found.append(ids[1:] if extra else ids)
        lengths = np.array([len(ids) for ids in found], np.int64)
        ids = np.concatenate([np.zeros(0, np.int32), *found]).astype(np.int32)
        made.append((ids, np.where(lengths > 0, np.cumsum(lengths) - lengths, -1)))
    return made
