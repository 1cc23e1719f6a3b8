"""Scores of predictions against references: shares between 0 and 1, nothing but numpy."""

import unicodedata
from collections.abc import Sequence

import numpy as np


def exact_match(
    predicted: Sequence[str], wanted: Sequence[str], *, ignore_space: bool = False, ignore_case: bool = False
) -> float:
    """Returns the share of texts that are equal to their reference.

    Args:
        predicted: texts.
        wanted: references, as many.
        ignore_space: compare without any white space; else runs of it count as one space.
        ignore_case: compare case-folded.

    Raises:
        ValueError: there are none, or not as many of one as of the other.
    """
    _aligned(predicted, wanted, "texts")

    def plain(text: str) -> str:
        text = ("" if ignore_space else " ").join(unicodedata.normalize("NFC", text).split())
        return text.casefold() if ignore_case else text

    return sum(plain(p) == plain(w) for p, w in zip(predicted, wanted)) / len(wanted)


def token_accuracy(predicted: np.ndarray, wanted: np.ndarray, weights: np.ndarray) -> float:
    """Returns the weighted share of positions that are right; all three arrays have one shape.

    Raises:
        ValueError: the shapes differ, or no position has weight.
    """
    if not predicted.shape == wanted.shape == weights.shape:
        raise ValueError(
            f"shapes {predicted.shape}, {wanted.shape} and {weights.shape} differ: give arrays of one shape"
        )
    total = float(weights.sum())
    if total <= 0:
        raise ValueError(f"no position of {weights.shape} has weight: there is nothing to score")
    return float(((predicted == wanted) * weights).sum()) / total


def spans(tags: Sequence[str]) -> set[tuple[str, int, int]]:
    """Returns the spans (type, start, end) of one sequence of BIO tags, read as conlleval and seqeval read them.

    B- begins a span; so does I- after O or after a span of another type.
    """
    found, kind, start = set(), None, 0
    for position, tag in enumerate([*tags, "O"]):
        prefix, _, name = tag.partition("-")
        if kind is not None and (prefix != "I" or name != kind):
            found.add((kind, start, position))
            kind = None
        if prefix in ("B", "I") and kind is None:
            kind, start = name, position
    return found


def span_f1(predicted: Sequence[Sequence[str]], wanted: Sequence[Sequence[str]]) -> dict[str, float]:
    """Returns 'precision', 'recall' and 'f1' over the spans of all sequences (micro average, as seqeval's).

    Raises:
        ValueError: there are none, or a sequence and its reference differ in length.
    """
    _aligned(predicted, wanted, "sequences")
    right = guessed = there = 0
    for number, (own, reference) in enumerate(zip(predicted, wanted)):
        if len(own) != len(reference):
            raise ValueError(f"sequence {number} has {len(own)} tags, its reference {len(reference)}: align them")
        a, b = spans(own), spans(reference)
        right, guessed, there = right + len(a & b), guessed + len(a), there + len(b)
    return {
        "precision": _ratio(right, guessed),
        "recall": _ratio(right, there),
        "f1": _ratio(2 * right, guessed + there),
    }


def accuracy(predicted: Sequence[int] | np.ndarray, wanted: Sequence[int] | np.ndarray) -> float:
    """Returns the share of labels that are right.

    Raises:
        ValueError: there are none, or not as many of one as of the other.
    """
    _aligned(predicted, wanted, "labels")
    return float((np.asarray(predicted) == np.asarray(wanted)).mean())


def macro_f1(predicted: Sequence[int] | np.ndarray, wanted: Sequence[int] | np.ndarray) -> float:
    """Returns the mean F1 of all labels that occur on either side.

    Raises:
        ValueError: there are none, or not as many of one as of the other.
    """
    _aligned(predicted, wanted, "labels")
    own, reference = np.asarray(predicted), np.asarray(wanted)
    scores = []
    for label in np.union1d(own, reference):
        a, b = own == label, reference == label
        scores.append(_ratio(2 * int((a & b).sum()), int(a.sum() + b.sum())))
    return float(np.mean(scores))


def _aligned(predicted: Sequence | np.ndarray, wanted: Sequence | np.ndarray, what: str) -> None:
    if len(predicted) != len(wanted) or not len(wanted):
        raise ValueError(f"{len(predicted)} predicted {what} for {len(wanted)} references: give as many, at least one")


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
