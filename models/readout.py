"""The last product, from states to the vocabulary."""

import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jax import Array
from jax.nn import initializers

from models import initial
from models import stack as stacks

LOGIT_SCALES = ("none", "width")


def check_scale(name: str, owner: str):
    """Refuse a logit scale that is not in `LOGIT_SCALES`."""
    if name not in LOGIT_SCALES:
        raise ValueError(f"{owner}: logit_scale {name!r} is unknown; choose one of {', '.join(LOGIT_SCALES)}")


@struct.dataclass
class Readout:
    """The last product, left to the caller so that it can be taken in chunks.

    logits = hidden @ kernel.T * scale + bias, with kernel [V, D] and bias [V] or None, both float32.
    """

    kernel: Array
    bias: Array | None = None
    scale: float = struct.field(pytree_node=False, default=1.0)

    def logits(self, hidden: Array) -> Array:
        """[..., D] -> float32 [..., V], all at once: for one token a row, or for tests."""
        kernel = self.kernel.astype(hidden.dtype)
        scores = jnp.einsum("...d,vd->...v", hidden, kernel, preferred_element_type=jnp.float32) * self.scale
        return scores if self.bias is None else scores + jnp.broadcast_to(self.bias, scores.shape)


class Output(nn.Module):
    """The parameters of an output that are its own: a kernel where it is not `tied`, a bias on request."""

    config: stacks.Stack
    vocabulary: int
    tied: bool
    bias: bool = False
    scale: str = "none"
    width: int | None = None
    """Columns of a kernel of its own; None means the stack's width."""

    @nn.compact
    def __call__(self, embedding: Array) -> Readout:
        """Readout by the token embedding [V, D] if tied, else by a kernel of the same shape."""
        c, kernel, bias = self.config, embedding, None
        if not self.tied:
            kernel = initial.parameter(
                self, "kernel", (self.vocabulary, self.width or c.width), ("vocab", "embed"), c.init.kernel(c.width)
            )
        if self.bias:
            bias = initial.parameter(self, "bias", (self.vocabulary,), ("vocab",), initializers.zeros)
        return Readout(kernel=kernel, bias=bias, scale=c.width**-0.5 if self.scale == "width" else 1.0)
