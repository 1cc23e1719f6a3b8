"""Initial values: the one place that decides them, and the one way a module makes a parameter."""

import dataclasses
import math
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jax.nn import initializers

SCHEMES = ("normal", "fan_in")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Initial:
    """Standard deviations of the normal distributions that parameters start from; biases start at 0, norm scales at 1.

    `scheme` "normal" gives every kernel the deviation `std` (BERT, GPT-2: 0.02). "fan_in" gives std / sqrt(inputs of
    the kernel), T5's rule with std 1; there, queries are divided by sqrt(head size) too when the scores are not scaled.
    `embedding` is the deviation of the token, position and type tables (T5: 1). `residual` multiplies the outputs that
    are added to the residual stream; with `depth_scaled` they are divided by sqrt(2 x layers) as well
    (Megatron-LM, arXiv:1909.08053; GPT-2).
    """

    scheme: str = "normal"
    std: float = 0.02
    embedding: float = 0.02
    residual: float = 1.0
    depth_scaled: bool = False

    def __post_init__(self):
        if self.scheme not in SCHEMES:
            raise ValueError(f"Initial: scheme {self.scheme!r} is unknown; choose one of {', '.join(SCHEMES)}")
        if min(self.std, self.embedding, self.residual) < 0:
            raise ValueError(
                f"Initial: std {self.std}, embedding {self.embedding} and residual {self.residual} are deviations; "
                "give numbers that are not negative"
            )

    def kernel(self, inputs: int) -> float:
        """Deviation of a kernel that sums over `inputs` numbers."""
        return self.std / math.sqrt(inputs) if self.scheme == "fan_in" else self.std

    def query(self, inputs: int, head_dim: int, scaled: bool) -> float:
        """Deviation of a query kernel; `scaled` tells whether attention divides its scores by sqrt(head size)."""
        std = self.kernel(inputs)
        return std / math.sqrt(head_dim) if self.scheme == "fan_in" and not scaled else std

    def output(self, inputs: int, layers: int) -> float:
        """Deviation of a kernel whose result is added to the residual stream of a stack of `layers` layers."""
        std = self.kernel(inputs) * self.residual
        return std / math.sqrt(2 * layers) if self.depth_scaled else std


def parameter(module: nn.Module, name: str, shape: tuple[int, ...], axes: tuple[str, ...], init) -> Array:
    """A float32 parameter of `module`, born with one logical axis name for each dimension.

    `init` is a standard deviation, or an initialiser of `jax.nn.initializers` for constants.
    """
    if not callable(init):
        init = initializers.normal(init)
    value: Any = module.param(name, nn.with_logical_partitioning(init, axes), shape, jnp.float32)
    return value
