"""Intervals against scipy's tests."""

import pytest
from scipy import stats

from recipes import interval


def test_the_interval_of_a_difference_is_welch_s():
    one, other = [0.51, 0.55, 0.49, 0.6], [0.4, 0.47]
    found = stats.ttest_ind(other, one, equal_var=False).confidence_interval(0.95)
    assert interval.half_of_difference(one, other) == pytest.approx((found.high - found.low) / 2)
    assert interval.half_of_difference(one, other[:1]) is None is interval.half_of_difference([1.0, 1.0], [2.0, 2.0])
