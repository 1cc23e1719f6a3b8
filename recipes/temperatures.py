"""How the temperature at which a frozen auxiliary samples falls while the main model trains (Fast-ELECTRA).

Each is a function of u, the share of the updates that are done, from 0 to 1. The exponential form and its defaults are
recalled, not read, from arXiv:2310.07347; that linear and polynomial ones were tried there is known.
"""

import abc
import dataclasses
from typing import Any

import jax.numpy as jnp
from jax import Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Constant:
    """The same temperature throughout: 1 samples from the auxiliary's own distribution.

    Attributes:
      value: the temperature.
    """

    value: float = 1.0

    def __post_init__(self):
        """Refuses a temperature that is none."""
        _positive(self, "value", self.value)

    def __call__(self, step: Any) -> Array:
        """The temperature, float32 of the shape of `step`; None is the end of the stage."""
        return jnp.full(jnp.shape(step) if step is not None else (), self.value, jnp.float32)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Falling(abc.ABC):
    """What the falling ones have.

    Attributes:
      steps: updates over which u goes from 0 to 1: the stage's, or of all stages that one clock spans.
      start: the temperature at u = 0.
    """

    steps: int
    start: float = 2.0

    def __post_init__(self):
        """Refuses what is no schedule."""
        _positive(self, "steps", self.steps)
        _positive(self, "start", self.start)

    def __call__(self, step: Any) -> Array:
        """The temperature, float32 of the shape of `step`, an update's number from 0; None is the end of the stage."""
        u = jnp.ones(()) if step is None else jnp.minimum(jnp.asarray(step, jnp.float32) / self.steps, 1.0)
        return 1.0 + (self.start - 1.0) * self._left(u)

    @abc.abstractmethod
    def _left(self, u: Array) -> Array:
        """What is left of the surplus over 1."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Exponential(_Falling):
    """T(u) = 1 + (start - 1) exp(-u / decay).

    Attributes:
      decay: the share of the updates in which the surplus over 1 falls to 1 / e.
    """

    decay: float = 0.1

    def __post_init__(self):
        """Refuses what is no schedule."""
        super().__post_init__()
        _positive(self, "decay", self.decay)

    def _left(self, u: Array) -> Array:
        return jnp.exp(-u / self.decay)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Polynomial(_Falling):
    """T(u) = 1 + (start - 1) max(0, 1 - u / until) ** power; with power 1 it falls linearly.

    Attributes:
      until: the share of the updates after which the temperature is 1.
      power: the exponent.
    """

    until: float = 1.0
    power: float = 1.0

    def __post_init__(self):
        """Refuses what is no schedule."""
        super().__post_init__()
        _positive(self, "until", self.until)
        _positive(self, "power", self.power)

    def _left(self, u: Array) -> Array:
        return jnp.maximum(1.0 - u / self.until, 0.0) ** self.power


Temperature = Constant | Exponential | Polynomial


def _positive(owner: object, field: str, value: float) -> None:
    if not value > 0:
        raise ValueError(f"{type(owner).__name__}: {field} is {value}; give a number above 0")
