"""Rotary wavelengths changed so that a model reads longer texts than it was first trained on."""

import dataclasses
import math

import jax.numpy as jnp
from jax import Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Llama3:
    """Llama 3.1's rule (arXiv:2407.21783): long wavelengths times `factor`, short ones kept, a ramp between.

    Attributes:
      factor: by how much the long wavelengths grow.
      low, high: wavelengths above original / low grow whole, those below original / high stay.
      original: positions that the model was first trained on.
    """

    factor: float
    low: float
    high: float
    original: int

    def __post_init__(self):
        if not (self.factor >= 1 and 0 < self.low < self.high and self.original >= 1):
            raise ValueError(
                f"Llama3: factor {self.factor}, low {self.low}, high {self.high}, original {self.original}: give a "
                "factor from 1, 0 < low < high and at least one position"
            )

    def __call__(self, frequency: Array) -> Array:
        """Frequencies [C / 2] in radians a place -> those of the longer text."""
        share = (self.original * frequency / (2 * math.pi) - self.low) / (self.high - self.low)
        share = jnp.clip(share, 0, 1)
        return frequency * (share + (1 - share) / self.factor)
