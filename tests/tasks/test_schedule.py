import numpy as np
import pytest

from tasks import schedule


@pytest.mark.parametrize("rates", [(1.0,), (0.6, 0.3, 0.1), (1, 1, 1), (1e-9, 1.0), (5, 3, 2, 0.001)])
def test_turns_meet_the_rates_at_every_length(rates):
    turns = schedule.Turns(rates=rates)
    part, number = turns.at(np.arange(3 * schedule.PERIOD))
    share = np.array(rates) / sum(rates)
    for rows in (10, 100, 5000, schedule.PERIOD, 2 * schedule.PERIOD + 77):
        counts = np.bincount(part[:rows], minlength=len(rates))
        # At least one row in each period goes to a part, however rare.
        assert (np.abs(counts - rows * share) < len(rates) + rows / schedule.PERIOD).all()
    for p in range(len(rates)):
        mine = number[part == p]
        assert mine.tolist() == list(range(len(mine)))


def test_turns_far_away_are_as_quick_and_right():
    turns = schedule.Turns(rates=(2.0, 1.0))
    rows = np.array([10**12, 10**12 + 1, 10**12 + 2])
    part, number = turns.at(rows)
    for k in range(2):
        assert np.abs(number[part == k] - rows[part == k] * [2 / 3, 1 / 3][k]).max(initial=0) < 1e7
    assert len(set(zip(part.tolist(), number.tolist(), strict=True))) == 3


@pytest.mark.parametrize("size", [1, 2, 3, 10, 97, 1000, 4096])
def test_permute_is_a_permutation(size):
    index = np.arange(size)
    seen = set()
    for key in range(5):
        made = schedule.permute(index, np.full(size, size), np.full(size, key * 7919 + 1, np.uint64))
        assert sorted(made.tolist()) == index.tolist()
        seen.add(tuple(made.tolist()))
    assert size < 10 or len(seen) == 5


def test_permute_looks_random():
    size = 1000
    made = schedule.permute(np.arange(size), np.full(size, size), np.full(size, 5, np.uint64))
    assert abs(np.corrcoef(np.arange(size), made)[0, 1]) < 0.15
    assert np.abs(np.diff(made)).mean() > 250
    places = np.array(
        [schedule.permute(np.array([3]), np.array([50]), np.array([k], np.uint64))[0] for k in range(2000)]
    )
    counts = np.bincount(places, minlength=50)
    assert np.abs(counts - 40).max() < 5 * 40**0.5


def test_every_token_is_read_but_less_than_a_window():
    sizes, window = (1037, 350), 50
    windows = schedule.Windows(tokens=sizes, rates=sizes, window=window, seed=3)
    part, starts = windows.at(np.arange(20000))
    for p, size in enumerate(sizes):
        count = size // window
        mine = starts[part == p]
        shifts = set()
        for epoch in range(10):
            own = mine[epoch * count : (epoch + 1) * count]
            covered = (own[:, None] + np.arange(window)) % size
            assert len(np.unique(covered)) == count * window > size - window
            shifts.add(own.min() % window)
        assert len(shifts) > 3


def test_a_part_shorter_than_a_window():
    windows = schedule.Windows(tokens=(10, 1000), rates=(1.0, 1.0), window=64, seed=0)
    part, starts = windows.at(np.arange(100))
    assert (starts[part == 0] < 10).all() and len(np.unique(starts[part == 0])) > 3


def test_seeds_differ_and_repeat():
    one, again, other = (
        schedule.Windows(tokens=(10_000,), rates=(1.0,), window=64, seed=seed).at(np.arange(100))[1]
        for seed in (1, 1, -2)
    )
    assert one.tolist() == again.tolist() != other.tolist()


def test_generators_depend_on_seed_and_row_alone():
    one = [g.random() for g in schedule.generators(1, np.arange(10))]
    late = [g.random() for g in schedule.generators(1, np.arange(5, 15))]
    other = [g.random() for g in schedule.generators(-1, np.arange(10))]
    assert one[5:] == late[:5] and len({*one, *late, *other}) == 25
