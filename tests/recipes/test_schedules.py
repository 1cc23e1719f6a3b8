import dataclasses
import math

import jax
import numpy as np
import pytest

from recipes import schedules

ALL = (
    schedules.Constant(peak=3e-4, warmup=7),
    schedules.Linear(peak=1e-3, warmup=10, steps=100, final=0.1),
    schedules.Cosine(peak=1e-3, warmup=10, steps=100, final=0.01, offset=5),
    schedules.InverseSqrt(peak=0.01, warmup=16),
    schedules.InverseSqrt(peak=0.01, timescale=20),
    *(
        schedules.WSD(peak=1.0, warmup=10, steps=100, final=0.05, decay=0.3, shape=shape)
        for shape in ("linear", "cosine", "sqrt", "exponential")
    ),
)


@pytest.mark.parametrize("schedule", ALL, ids=str)
def test_python_numpy_and_traced_agree(schedule):
    steps = np.arange(130, dtype=np.int32)
    plain = np.array([schedule(int(step)) for step in steps])
    np.testing.assert_allclose(schedule(steps), plain, rtol=1e-12)
    traced = jax.jit(schedule)(steps)
    assert traced.dtype == np.float32
    np.testing.assert_allclose(traced, plain, rtol=2e-6, atol=1e-9)
    np.testing.assert_allclose(jax.jit(jax.vmap(schedule))(steps), traced, rtol=1e-6)


@pytest.mark.parametrize("schedule", ALL, ids=str)
def test_rises_to_the_peak_then_never_rises(schedule):
    schedule = dataclasses.replace(schedule, offset=0)
    rates = [schedule(step) for step in range(150)]
    assert rates[0] > 0
    rises = np.diff(rates[: schedule.warmup + 1])
    np.testing.assert_allclose(rises, schedule.peak / (schedule.warmup + 1), rtol=1e-9)
    assert rates[schedule.warmup] == pytest.approx(schedule.peak)
    assert max(rates) <= schedule.peak * (1 + 1e-12)
    assert all(
        after <= before * (1 + 1e-12) for before, after in zip(rates[schedule.warmup :], rates[schedule.warmup + 1 :])
    )


@pytest.mark.parametrize("schedule", [s for s in ALL if s.horizon is not None], ids=str)
def test_ends_at_final_and_stays(schedule):
    end = schedule.horizon - schedule.offset
    assert schedule(end) == pytest.approx(schedule.final * schedule.peak)
    assert schedule(10 * end) == pytest.approx(schedule.final * schedule.peak)


def test_known_values():
    assert schedules.Linear(peak=2.0, steps=10)(5) == pytest.approx(1.0)
    assert schedules.Cosine(peak=2.0, steps=10)(5) == pytest.approx(1.0)
    assert schedules.InverseSqrt(peak=0.01, timescale=10_000)(9_999) == pytest.approx(0.01)
    assert schedules.InverseSqrt(peak=0.01, timescale=10_000)(40_000) == pytest.approx(0.005)
    stable = schedules.WSD(peak=1.0, steps=100, decay=0.25, shape="sqrt")
    assert [stable(75), stable(91)] == pytest.approx([1.0, 1 - math.sqrt(16 / 25)])


def test_one_schedule_spans_stages():
    whole = schedules.Cosine(peak=1e-3, warmup=20, steps=300)
    second = dataclasses.replace(whole, offset=120)
    assert second != whole
    assert [second(step) for step in range(180)] == [whole(120 + step) for step in range(180)]
    assert whole.shift(120) == second


def test_open_horizon_ends_with_the_stage():
    cosine = schedules.Cosine(peak=1e-3, offset=40)
    with pytest.raises(ValueError, match=r"Cosine has no steps yet; call resolve\(steps\)"):
        cosine(0)
    assert cosine.resolve(60).horizon == 100
    assert cosine.resolve(60).resolve(5).horizon == 100
    constant = schedules.Constant(peak=1.0)
    assert constant.resolve(60) is constant


def test_steps_until_finds_the_switch_of_reuse():
    cosine = schedules.Cosine(peak=4.5e-5, steps=100_000, final=0.01)
    for fraction, share in ((1 / 2, 0.503), (1 / 5, 0.711), (1 / 10, 0.805), (1 / 50, 0.936)):
        step = schedules.steps_until(cosine, fraction)
        assert step / 100_000 == pytest.approx(share, abs=5e-4)
        assert cosine(step) <= fraction * cosine.peak < cosine(step - 1)
    assert schedules.steps_until(cosine, 0.01) == 100_000
    assert (
        schedules.steps_until(dataclasses.replace(cosine, offset=1000), 1 / 5)
        == schedules.steps_until(cosine, 1 / 5) - 1000
    )


@pytest.mark.parametrize("schedule", [s for s in ALL if not isinstance(s, schedules.Constant)], ids=str)
def test_steps_until_agrees_with_a_search_step_by_step(schedule):
    start = max(schedule.warmup - schedule.offset, 0)
    slow = next(step for step in range(start, 10_000) if schedule(step) <= 0.37 * schedule.peak)
    assert schedules.steps_until(schedule, 0.37) == slow


@pytest.mark.parametrize(
    ("schedule", "fraction", "message"),
    [
        (
            schedules.Cosine(peak=1.0, steps=10, final=0.3),
            0.2,
            "Cosine never falls to 0.2 of its peak; its rate ends at 0.3",
        ),
        (schedules.Constant(peak=1.0), 0.5, "Constant never falls to 0.5"),
        (schedules.Cosine(peak=1.0), 0.5, "no steps yet"),
        (schedules.Cosine(peak=1.0, steps=10), 0.0, "give a fraction above 0"),
    ],
)
def test_steps_until_refuses(schedule, fraction, message):
    with pytest.raises(ValueError, match=message):
        schedules.steps_until(schedule, fraction)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: schedules.Constant(peak=0.0), "Constant has peak 0.0"),
        (lambda: schedules.Constant(peak=math.nan), "peak nan"),
        (lambda: schedules.Linear(peak=1.0, warmup=-1), "warmup -1"),
        (lambda: schedules.Linear(peak=1.0, warmup=10, steps=10), "10 steps and a warm-up of 10"),
        (lambda: schedules.Cosine(peak=1.0, final=1.5), "final 1.5"),
        (lambda: schedules.InverseSqrt(peak=1.0, timescale=0), "timescale 0"),
        (lambda: schedules.WSD(peak=1.0, decay=0.0), "decay 0.0"),
        (lambda: schedules.WSD(peak=1.0, shape="cubic"), "shape 'cubic'"),
        (lambda: schedules.WSD(peak=1.0, shape="exponential"), "exponentially to 0.0"),
    ],
)
def test_refuses(make, message):
    with pytest.raises(ValueError, match=message):
        make()
