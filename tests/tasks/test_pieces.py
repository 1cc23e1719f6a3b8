import numpy as np
import pytest

from tasks import pieces


@pytest.fixture
def found() -> pieces.Pieces:
    return pieces.Pieces.of([[np.array([7, 8, 1]), np.array([9, 1])], [np.array([1]), np.array([5, 6])], []])


def listed(found: pieces.Pieces) -> list[list[list[int]]]:
    rows: list[list[list[int]]] = [[] for _ in range(found.count)]
    for row, piece in zip(found.rows, np.split(found.tokens, found.ends[:-1]), strict=True):
        rows[row].append(piece.tolist())
    return rows


def test_segments_count_from_one_in_each_row(found):
    assert found.segments().tolist() == [1, 2, 1, 2]


def test_text_drops_only_the_eos_at_a_piece_end(found):
    assert listed(found.text(1)) == [[[7, 8], [9]], [[], [5, 6]], []]


def test_cut_and_skip(found):
    assert listed(found.cut(np.array([2, 0, 1, 1]))) == [[[7, 8], []], [[1], [5]], []]
    assert listed(found.cut(np.array([1, 1, 0, 1]), np.array([2, 0, 0, 1]))) == [[[1], [9]], [[], [6]], []]


def test_within_leaves_empty_pieces_empty_unless_told(found):
    text = found.text(1)
    assert listed(text.within(50, 1)) == [[[50, 7, 8, 1], [50, 9, 1]], [[], [50, 5, 6, 1]], []]
    every = np.ones(4, bool)
    assert listed(text.within(None, 2, full=every))[1] == [[2], [5, 6, 2]]


def test_joined_puts_doc_between_and_keeps_the_last_eos(found):
    assert listed(found.joined(eos=1, doc=4)) == [[[7, 8, 4, 9, 1]], [[4, 5, 6]], [[]]]


def test_take_numbers_rows_anew(found):
    assert listed(found.take(np.array([1, 2]))) == listed(found)[1:]


def test_fit_shortens_rows_at_their_ends(found):
    lengths = found.fit(3, lambda lengths: lengths)
    assert lengths.tolist() == [3, 0, 1, 2]
    # Every token costs two and a piece one more.
    one = pieces.Pieces.of([[np.arange(9)], [np.arange(2)]])
    assert one.fit(7, lambda lengths: (2 * lengths + 1) * (lengths > 0), price=2).tolist() == [3, 2]


def test_before_sums_inside_rows():
    rows = np.array([0, 0, 2, 2, 2])
    assert pieces.before(np.array([1, 2, 3, 4, 5]), rows).tolist() == [0, 1, 0, 3, 7]
    assert pieces.before(np.zeros(0, int), np.zeros(0, int)).tolist() == []
