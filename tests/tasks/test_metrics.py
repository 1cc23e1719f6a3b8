import numpy as np
import pytest

from tasks import metrics


def test_exact_match_and_what_it_ignores():
    predicted, wanted = ["a b", "A  b", "ab", "c"], ["a b", "a b", "a b", "d"]
    assert metrics.exact_match(predicted, wanted) == 0.25
    assert metrics.exact_match(predicted, wanted, ignore_case=True) == 0.5
    assert metrics.exact_match(predicted, wanted, ignore_space=True) == 0.5
    assert metrics.exact_match(predicted, wanted, ignore_space=True, ignore_case=True) == 0.75
    # Composed and decomposed letters are one text; so are runs of spaces, and none at the ends.
    assert metrics.exact_match(["cafe\u0301  x\n"], ["caf\u00e9 x"]) == 1.0


def test_token_accuracy_counts_weights():
    wanted = np.array([[1, 2, 3], [4, 5, 0]])
    predicted = np.array([[1, 2, 9], [9, 5, 7]])
    weights = np.array([[1, 1, 1], [1, 2, 0]], np.float32)
    assert metrics.token_accuracy(predicted, wanted, weights) == pytest.approx(4 / 6)
    with pytest.raises(ValueError, match="no position"):
        metrics.token_accuracy(predicted, wanted, 0 * weights)


@pytest.mark.parametrize(
    ("tags", "want"),
    [
        ("O O", set()),
        ("B-PER I-PER O", {("PER", 0, 2)}),
        ("B-PER B-PER", {("PER", 0, 1), ("PER", 1, 2)}),
        ("B-PER I-LOC", {("PER", 0, 1), ("LOC", 1, 2)}),
        ("O I-LOC I-LOC", {("LOC", 1, 3)}),
        ("I-A O B-A-B I-A-B", {("A", 0, 1), ("A-B", 2, 4)}),
        ("", set()),
    ],
)
def test_spans_of_bio_tags(tags, want):
    assert metrics.spans(tags.split()) == want


def test_span_f1():
    wanted = [["B-PER", "I-PER", "O", "B-LOC"], ["O", "B-ORG"]]
    predicted = [["B-PER", "I-PER", "O", "B-ORG"], ["O", "O"]]
    score = metrics.span_f1(predicted, wanted)
    assert score == {"precision": 0.5, "recall": pytest.approx(1 / 3), "f1": pytest.approx(0.4)}
    assert metrics.span_f1(wanted, wanted)["f1"] == 1.0
    assert metrics.span_f1([["O"]], [["O"]])["f1"] == 0.0
    with pytest.raises(ValueError, match="sequence 0 has 1 tags, its reference 2"):
        metrics.span_f1([["O"]], [["O", "O"]])


def test_accuracy_and_macro_f1():
    wanted, predicted = [0, 0, 1, 1, 2], [0, 1, 1, 1, 3]
    assert metrics.accuracy(predicted, wanted) == pytest.approx(0.6)
    # Labels 0: 2/3, 1: 4/5, 2 and 3: 0.
    assert metrics.macro_f1(predicted, wanted) == pytest.approx((2 / 3 + 4 / 5) / 4)


def test_macro_f1_is_that_of_scikit_learn():
    sklearn = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    for _ in range(20):
        wanted, predicted = rng.integers(0, 5, 30), rng.integers(0, 6, 30)
        assert metrics.macro_f1(predicted, wanted) == pytest.approx(
            sklearn.f1_score(wanted, predicted, average="macro", zero_division=0)
        )


def test_what_does_not_match_is_refused():
    for score in (metrics.exact_match, metrics.accuracy, metrics.macro_f1, metrics.span_f1):
        with pytest.raises(ValueError, match="0 predicted"):
            score([], [])
        with pytest.raises(ValueError, match="1 predicted .* 2 references"):
            score([["O"]], [["O"], ["O"]])
