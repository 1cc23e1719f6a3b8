"""Learning-rate schedules: plain arithmetic, so that a plan can ask for a rate without importing JAX.

A schedule is called with `step`, the number of updates this stage has made, and looks at `position = step + offset`.
Two stages that share one schedule have the same fields, the later one with the earlier one's updates as its `offset`.
During warm-up the rate rises in equal increments and reaches `peak` at `position == warmup`; no update has a rate of
zero. Past the horizon a schedule holds its last value.

The same formula serves Python numbers (math), NumPy arrays (float64) and traced JAX arrays (float32).
"""

import dataclasses
import math
import types
from typing import Any, Literal

_SCALAR = types.SimpleNamespace(
    cos=math.cos,
    sqrt=math.sqrt,
    exp=math.exp,
    minimum=min,
    maximum=max,
    where=lambda condition, yes, no: yes if condition else no,
)
# An inverse square root falls below any fraction in the end; beyond this position no run is meant.
_FOREVER = 2**40


def _namespace(step: Any) -> tuple[Any, Any]:
    """Returns the functions that fit `step`, and `step` as a floating number of that kind."""
    if isinstance(step, (int, float)):
        return _SCALAR, float(step)
    import numpy

    if isinstance(step, (numpy.ndarray, numpy.generic)):
        return numpy, numpy.asarray(step, numpy.float64)
    import jax.numpy

    return jax.numpy, jax.numpy.asarray(step, jax.numpy.float32)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule:
    """What every schedule has. Use one of the classes below; this one holds no shape.

    Attributes:
      peak: the highest rate, reached at the end of the warm-up.
      warmup: positions that rise linearly to `peak`, counted inside the horizon.
      offset: position of this stage's step 0, for a schedule that began in an earlier stage.
    """

    peak: float
    warmup: int = 0
    offset: int = 0

    def __post_init__(self):
        """Refuses rates and counts that no schedule can follow."""
        if not self.peak > 0 or math.isinf(self.peak):
            raise ValueError(f"{self._name} has peak {self.peak}; a peak is a finite rate above 0.")
        if self.warmup < 0 or self.offset < 0:
            raise ValueError(f"{self._name} has warmup {self.warmup} and offset {self.offset}; neither may be below 0.")

    @property
    def _name(self) -> str:
        return type(self).__name__

    @property
    def horizon(self) -> int | None:
        """Position at which the rate stops changing; None where it never does (or is not known yet)."""
        return None

    def resolve(self, steps: int) -> "Schedule":
        """Returns the schedule with an open horizon set so that it ends with a stage of `steps` updates."""
        del steps
        return self

    def shift(self, positions: int) -> "Schedule":
        """Returns the schedule begun `positions` earlier: what a carried clock asks for."""
        return self if not positions else dataclasses.replace(self, offset=self.offset + positions)

    def __call__(self, step: Any) -> Any:
        """Returns the rate of the update made after `step` updates of this stage.

        Args:
          step: a number, or an array of any shape, NumPy's or JAX's (traced too).

        Raises:
          ValueError: the horizon is still open (see `resolve`).
        """
        ops, step = _namespace(step)
        position = step + self.offset
        ramp = ops.minimum((position + 1.0) / (self.warmup + 1.0), 1.0)
        return self.peak * ramp * self._fraction(position, ops)

    def _fraction(self, position: Any, ops: Any) -> Any:
        """Returns the rate as a fraction of the peak, warm-up left aside."""
        raise TypeError(f"{self._name} has no shape; use Constant, Linear, Cosine, InverseSqrt or WSD.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Constant(Schedule):
    """The peak, forever."""

    def _fraction(self, position: Any, ops: Any) -> Any:
        del ops
        return 1.0 + 0.0 * position


@dataclasses.dataclass(frozen=True, kw_only=True)
class InverseSqrt(Schedule):
    """Falls as one over the square root of the position, once past `timescale`.

    With `timescale` None (the warm-up's length) this is the schedule of Vaswani et al. 2017, https://arxiv.org/abs/1706.03762;
    with `warmup=0, timescale=10_000, peak=0.01` it is T5's, https://arxiv.org/abs/1910.10683.

    Attributes:
      timescale: positions before the fall begins; None for the warm-up's length.
    """

    timescale: int | None = None

    def __post_init__(self):
        """Refuses a timescale below 1."""
        super().__post_init__()
        if self.timescale is not None and self.timescale < 1:
            raise ValueError(f"InverseSqrt has timescale {self.timescale}; give at least 1, or None for the warm-up.")

    def _fraction(self, position: Any, ops: Any) -> Any:
        scale = float(max(self.warmup, 1) if self.timescale is None else self.timescale)
        return ops.sqrt(scale / ops.maximum(position, scale))


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Finite(Schedule):
    """A schedule with an end.

    Attributes:
      steps: the horizon, a position counted from the schedule's own start; None lets it end with the stage.
      final: the rate at the horizon, as a fraction of the peak.
    """

    steps: int | None = None
    final: float = 0.0

    def __post_init__(self):
        """Refuses a horizon inside the warm-up, and a final fraction outside 0 to 1."""
        super().__post_init__()
        if not 0 <= self.final <= 1:
            raise ValueError(f"{self._name} has final {self.final}; it is a fraction of the peak, from 0 to 1.")
        if self.steps is not None and self.steps <= self.warmup:
            raise ValueError(
                f"{self._name} has {self.steps} steps and a warm-up of {self.warmup}; its horizon must lie beyond that."
            )

    @property
    def horizon(self) -> int | None:
        """Position at which the rate reaches `final`; None while it waits for `resolve`."""
        return self.steps

    def resolve(self, steps: int) -> "Schedule":
        """Returns the schedule with an open horizon set so that it ends with a stage of `steps` updates."""
        return self if self.steps is not None else dataclasses.replace(self, steps=self.offset + steps)

    def _progress(self, position: Any, ops: Any, start: float | None = None) -> Any:
        """Returns how far `position` is from `start` (the end of the warm-up) to the horizon, from 0 to 1."""
        if self.steps is None:
            raise ValueError(f"{self._name} has no steps yet; call resolve(steps) with the stage's number of updates.")
        first = float(self.warmup) if start is None else start
        return ops.minimum(ops.maximum((position - first) / (self.steps - first), 0.0), 1.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Linear(_Finite):
    """A straight line from the peak to `final`."""

    def _fraction(self, position: Any, ops: Any) -> Any:
        return 1.0 - (1.0 - self.final) * self._progress(position, ops)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cosine(_Finite):
    """Half a cosine from the peak to `final` (Loshchilov & Hutter 2017, https://arxiv.org/abs/1608.03983)."""

    def _fraction(self, position: Any, ops: Any) -> Any:
        return self.final + (1.0 - self.final) * 0.5 * (1.0 + ops.cos(math.pi * self._progress(position, ops)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class WSD(_Finite):
    """Warm-up, stable, decay (Hu et al. 2024, https://arxiv.org/abs/2404.06395): the peak, then a fall to `final`.

    Attributes:
      decay: share of the horizon that the fall takes, counted from its end.
      shape: how it falls; 'sqrt' is one minus the square root (Hägele et al. 2024, https://arxiv.org/abs/2405.18392);
        'exponential' falls by equal factors in equal times and needs `final` above 0.
    """

    decay: float = 0.2
    shape: Literal["linear", "cosine", "sqrt", "exponential"] = "linear"

    def __post_init__(self):
        """Refuses an unknown shape, a decay outside 0 to 1, and an exponential fall to zero."""
        super().__post_init__()
        if not 0 < self.decay <= 1:
            raise ValueError(f"WSD has decay {self.decay}; it is a share of the horizon, above 0 and at most 1.")
        if self.shape not in ("linear", "cosine", "sqrt", "exponential"):
            raise ValueError(f"WSD has shape '{self.shape}'; choose linear, cosine, sqrt or exponential.")
        if self.shape == "exponential" and not self.final > 0:
            raise ValueError(f"WSD falls exponentially to {self.final}; give final above 0, or another shape.")

    def _fraction(self, position: Any, ops: Any) -> Any:
        horizon = float(self.steps or 0)
        fall = self._progress(position, ops, max(horizon * (1.0 - self.decay), float(self.warmup)))
        if self.shape == "exponential":
            return ops.exp(fall * math.log(self.final))
        left = {"linear": lambda: 1.0 - fall, "sqrt": lambda: 1.0 - ops.sqrt(fall)}.get(
            self.shape, lambda: 0.5 * (1.0 + ops.cos(math.pi * fall))
        )()
        return self.final + (1.0 - self.final) * left


def steps_until(schedule: Schedule, fraction: float) -> int:
    """Returns the first step of the stage, warm-up passed, whose rate is at most `fraction` of the peak.

    It turns a rule about the rate into a stage boundary: "Reuse, Don't Retrain" (Parmar et al. 2024,
    https://arxiv.org/abs/2407.07263) changes its blend where the rate passes a fifth of the peak.

    Raises:
      ValueError: the fraction is not between 0 and 1, the horizon is open, or the rate never falls that low.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"steps_until was asked for {fraction} of the peak; give a fraction above 0 and at most 1.")
    # Rounding in the shapes must not push the answer one step past an exact hit.
    limit = fraction * schedule.peak * (1 + 1e-9)
    low = max(schedule.warmup - schedule.offset, 0)
    high = max((schedule.horizon or _FOREVER) - schedule.offset, low)
    if schedule(high) > limit:
        raise ValueError(
            f"{type(schedule).__name__} never falls to {fraction:g} of its peak; its rate ends at "
            f"{schedule(high) / schedule.peak:g} of it, so lower its final rate or ask for a larger fraction."
        )
    while low < high:  # every shape falls monotonically once warm
        middle = (low + high) // 2
        low, high = (low, middle) if schedule(middle) <= limit else (middle + 1, high)
    return low


def steps_after(schedule: Schedule, fraction: float) -> int:
    """Returns the steps that are left from `steps_until` to the horizon: the length of the stage behind the switch.

    Raises:
      ValueError: as `steps_until`, or the schedule has no horizon.
    """
    if schedule.horizon is None:
        raise ValueError(f"{type(schedule).__name__} has no horizon yet, so nothing is left of it; set its steps")
    return schedule.horizon - schedule.offset - steps_until(schedule, fraction)


def final_rate(schedule: Schedule) -> float:
    """Returns the rate that a schedule ends with: where continued pretraining begins, without a new warm-up.

    Raises:
      ValueError: the schedule has no horizon.
    """
    if schedule.horizon is None:
        raise ValueError(f"{type(schedule).__name__} has no horizon yet, so it ends with no rate; set its steps")
    return schedule(schedule.horizon - schedule.offset)
