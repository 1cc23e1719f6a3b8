"""Questions in rows, and answers from logits."""

import numpy as np
import pytest

from tasks import answers, encoder, records, windows

SPELL = encoder.Bytes()
CONTEXT = "Straße und Weg. " * 5 + "Der Himmel ist blau, sagt man. " + "Ende. " * 9
QUESTION = records.Question(
    id="q", question="Wie?", context=CONTEXT, answers=("blau", "blau, sagt"), starts=(CONTEXT.index("blau"),) * 2
)


def rows(length, stride=20, found=(QUESTION,)):
    return list(windows.rows(found, SPELL, length=length, stride=stride))


@pytest.mark.parametrize("length", [16, 40, 64, None])
def test_rows_hold_the_whole_context_and_the_answer(length):
    found, seen = rows(length), set()
    for row in found:
        ids, places = row["inputs"], row["offsets"]
        assert length is None or len(ids) <= length
        assert len(places) == len(ids) and ids[-1] == SPELL.specials.eos
        inside = np.flatnonzero(places[:, 0] != windows.OUTSIDE)
        assert ids[inside[0] - 1] == SPELL.specials.eos and inside[-1] == len(ids) - 2
        assert SPELL.decode(ids[: inside[0] - 1].tolist()) == "Wie?"[: (length or 99) // 4]
        seen |= set(range(places[inside[0], 0], places[inside[-1], 1]))
        first, last = row["targets"]
        if first:
            assert CONTEXT[places[first, 0] : places[last, 1]] == "blau"
        else:
            assert last == 0
    assert seen == set(range(len(CONTEXT)))
    assert any(row["targets"][0] for row in found) and (length is None) == (len(found) == 1)


def test_windows():
    assert windows.spans(10, 10, 4) == [(0, 10)] and windows.spans(0, 5, 4) == [(0, 0)]
    assert windows.spans(11, 10, 4) == [(0, 10), (4, 11)]
    assert windows.spans(9, 3, 4) == [(0, 3), (3, 6), (6, 9)]  # no stride leaves a gap


def test_rows_must_be_long_enough():
    for length, stride in ((15, 4), (64, 0)):
        with pytest.raises(ValueError, match=f"rows of {length} ids with stride {stride}"):
            rows(length, stride)


def logits(found, length, wanted):
    """Logits that point at character spans: (id, start, stop) to their height."""
    start, end = np.zeros((2, len(found), length))
    for at, row in enumerate(found):
        start[at, 0] = end[at, 0] = 50.0  # no answer here, says the model
        for (name, first, stop), height in wanted.items():
            begin = np.flatnonzero(row["offsets"][:, 0] == first)
            close = np.flatnonzero(row["offsets"][:, 1] == stop)
            if row["id"] == name and len(begin) and len(close):
                start[at, begin[0]] = end[at, close[-1]] = height
    return start, end


def test_the_best_passage_of_all_rows_is_the_answer():
    other = records.Question(id="p", question="Was?", context="Ja.", answers=("Ja",), starts=(0,))
    found = rows(40, found=(QUESTION, other))
    at = QUESTION.starts[0]
    start, end = logits(found, 40, {("q", at, at + 4): 3.0, ("q", 0, 3): 2.0, ("p", 0, 2): 1.0})
    best = answers.best(start, end, found)
    assert {name: answer.text for name, answer in best.items()} == {"q": "blau", "p": "Ja"}
    assert best["q"].score == 6.0
    assert answers.score(start, end, found) == {"f1": 1.0, "exact_match": 1.0}
    start, end = logits(found, 40, {("q", 0, 6): 2.0, ("p", 0, 2): 1.0})
    assert answers.score(start, end, found) == {"f1": 0.5, "exact_match": 0.5}


def test_answers_end_after_they_begin_and_are_short():
    (row,) = rows(None)
    length = len(row["inputs"])
    start, end = np.zeros((2, 1, length))
    start[0, 60], end[0, 50], end[0, 62], end[0, 95] = 9.0, 9.0, 5.0, 8.0
    head = row["offsets"][60, 0]
    assert answers.best(start, end, [row], longest=10)["q"].text == CONTEXT[head : head + 3].strip()
    assert len(answers.best(start, end, [row], longest=40)["q"].text) > 30
    with pytest.raises(ValueError, match="for 2 rows"):
        answers.best(start, end, [row, row])
