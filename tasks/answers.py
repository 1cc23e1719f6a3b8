"""From the logits of a span head to the answer of each question, over all rows of its context."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tasks import text_metrics, windows


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
    """What the rows of a question say.

    Attributes:
        text: the passage of the context.
        score: sum of its two logits.
    """

    text: str
    score: float


def best(
    starts: np.ndarray, ends: np.ndarray, rows: Sequence[Mapping[str, Any]], *, longest: int = 64
) -> dict[str, Answer]:
    """Returns the passage with the highest sum of logits for each question, by its id.

    Only ids of the context count, so position 0, which stands for rows without the answer, never does; every question
    gets an answer.

    Args:
        starts: [rows, L] logits of an answer's first position.
        ends: [rows, L] logits of its last position.
        rows: the features 'id', 'context' and 'offsets' of each row; offsets may be longer or shorter than L.
        longest: ids of an answer at most.

    Raises:
        ValueError: the shapes do not go together.
    """
    if starts.shape != ends.shape or starts.ndim != 2 or len(rows) != len(starts):
        raise ValueError(f"logits {starts.shape} and {ends.shape} for {len(rows)} rows: give [rows, L] of both")
    found: dict[str, Answer] = {}
    for start, end, row in zip(starts, ends, rows, strict=True):
        offsets = np.asarray(row["offsets"])[: len(start)]
        at = np.flatnonzero(offsets[:, 0] != windows.OUTSIDE)
        answer = Answer(text="", score=-np.inf)
        if len(at):
            first, last, score = _passage(np.asarray(start)[at], np.asarray(end)[at], longest)
            text = row["context"][offsets[at[first], 0] : offsets[at[last], 1]].strip()
            answer = Answer(text=text, score=score)
        if row["id"] not in found or answer.score > found[row["id"]].score:
            found[row["id"]] = answer
    return found


def score(
    starts: np.ndarray, ends: np.ndarray, rows: Sequence[Mapping[str, Any]], *, longest: int = 64, language: str = ""
) -> dict[str, float]:
    """Returns 'f1' and 'exact_match' over the questions.

    Args:
        starts: [rows, L] logits of an answer's first position.
        ends: [rows, L] logits of its last position.
        rows: the features 'id', 'context', 'offsets' and 'answers' of each row.
        longest: ids of an answer at most.
        language: see `text_metrics.squad`.

    Raises:
        ValueError: the shapes do not go together, or there are no rows.
    """
    found = best(starts, ends, rows, longest=longest)
    wanted = {row["id"]: list(row["answers"]) for row in rows}
    return text_metrics.squad([found[name].text for name in wanted], list(wanted.values()), language=language)


def _passage(start: np.ndarray, end: np.ndarray, longest: int) -> tuple[int, int, float]:
    """Returns the first and last index with the highest sum, `longest` apart at most, and the sum."""
    sums = start.astype(np.float64)[:, None] + end.astype(np.float64)[None, :]
    index = np.arange(len(start))
    length = index[None, :] - index[:, None]
    sums[(length < 0) | (length >= longest)] = -np.inf
    first, last = divmod(int(sums.argmax()), len(start))
    return first, last, float(sums[first, last])
