"""A question with its context as rows of ids: 'question EOS context EOS', a long context in several overlapping rows.

A row's targets are the positions of the answer's first and last id in the row. Where the answer is not wholly in the
row, both are 0, the question's first id, which is never in an answer (the part that [CLS] plays in BERT,
https://arxiv.org/abs/1810.04805).
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tasks import characters, encoder, records

OUTSIDE = -1
"""Both offsets of an id that is not of the context."""

SHORTEST = 16
"""Rows must be this long: a quarter is the question's."""


def rows(
    questions: Sequence[records.Question], spell: encoder.Encoder, *, length: int | None, stride: int
) -> Iterator[dict[str, Any]]:
    """Yields the rows of each question, in order.

    Features: 'inputs' [L] ids, 'targets' [2] positions, 'offsets' [L, 2] the characters of the context that each id
    spells (`OUTSIDE` elsewhere), 'context', 'id', 'answers', 'inputs_pretokenized', 'targets_pretokenized'.

    Args:
        questions: with their contexts.
        spell: the vocabulary.
        length: of a row at most, None for one row a question; a question takes a quarter of it at most.
        stride: ids from the start of one row's context to that of the next.

    Raises:
        ValueError: `length` is below `SHORTEST`, or `stride` below 1.
    """
    if stride < 1 or (length is not None and length < SHORTEST):
        raise ValueError(f"rows of {length} ids with stride {stride}: questions need {SHORTEST} ids and a stride of 1")
    contexts = list(dict.fromkeys(question.context for question in questions))
    placed = dict(zip(contexts, characters.spelt(spell, contexts), strict=True))
    asked = spell.encode([question.question for question in questions])
    eos = np.array([spell.specials.eos], np.int32)
    for question, own in zip(questions, asked, strict=True):
        ids, places = placed[question.context]
        own = own if length is None else own[: length // 4]
        room = max(1, len(ids)) if length is None else length - len(own) - 2
        first, last = _answer(places, question)
        for start, stop in spans(len(ids), room, stride):
            shift = len(own) + 1 - start
            inside = start <= first <= last < stop
            row = np.concatenate([own, eos, ids[start:stop], eos])
            offsets = np.full((len(row), 2), OUTSIDE, np.int32)
            offsets[len(own) + 1 : len(own) + 1 + stop - start] = places[start:stop]
            yield {
                "inputs": row,
                "targets": np.array([first + shift, last + shift] if inside else [0, 0], np.int32),
                "offsets": offsets,
                "context": question.context,
                "id": question.id,
                "answers": list(question.answers),
                "inputs_pretokenized": question.asked,
                "targets_pretokenized": question.said,
            }


def spans(count: int, room: int, stride: int) -> list[tuple[int, int]]:
    """Returns the (start, stop) of the windows over `count` ids, `room` at most in each; at least one."""
    step = min(stride, room)
    starts = range(0, max(1, count - room + step), step)
    return [(start, min(start + room, count)) for start in starts]


def _answer(places: np.ndarray, question: records.Question) -> tuple[int, int]:
    """Returns the first and the last id of the first answer; last < first where no id spells it."""
    start = question.starts[0]
    stop = start + len(question.answers[0])
    first = int(np.searchsorted(places[:, 1], start, side="right"))
    last = int(np.searchsorted(places[:, 0], stop, side="left")) - 1
    return first, last
