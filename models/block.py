"""One transformer layer, and the stack of them: scanned or unrolled, with or without rematerialisation.

Parameters of all layers lie stacked on a leading axis "layers" either way.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jax import Array

from models import attention, layers, stack

_SAVE = {"dots": jax.checkpoint_policies.save_only_these_names(layers.PRODUCT), "full": None}


@struct.dataclass
class Context:
    """What every layer of a stack shares.

    mask     [B, 1, L, L] from `attention.hide`; in a one-token step [B, 1, 1, T + 1], the token's own key last.
    bias     [H, L, L] relative bias or None; in a one-token step [B or 1, H, 1, T + 1].
    angles   rotary angles of the places of x, or None.
    memory, memory_mask   encoder states [B, S, D] and [B, 1, L, S], for layers with cross-attention; in a one-token
             step the cache holds keys and values in place of `memory`.
    kernel, memory_kernel   `kernels.Kernel` of self-attention and cross-attention, in place of masks and bias; or None.
    collect  what each layer hands out besides its output: "nothing", "states" (its output), "pairs" (a dict of the
             keys and values of "self" and, with cross-attention, "cross").
    """

    mask: Array | None
    bias: Array | None = None
    angles: tuple[Array, Array] | None = None
    memory: Any = None
    memory_mask: Array | None = None
    kernel: Any = None
    memory_kernel: Any = None
    collect: str = struct.field(pytree_node=False, default="nothing")


class Block(nn.Module):
    """Self-attention, cross-attention if `cross`, MLP; each in a residual branch with its norm."""

    config: stack.Stack
    dtype: jnp.dtype
    cross: bool = False

    @nn.compact
    def __call__(self, x: Array, context: Context, cache: dict[str, Any] | None) -> tuple[Array, Any]:
        """x [B, L, D] -> the same, and what `context.collect` asks for.

        With a `cache` of this layer's earlier pairs, x is [B, 1, D] and "self" pairs handed out are this token's alone.
        """
        pairs = {}

        def attend_self(x):
            module = attention.Attention(self.config, self.dtype, name="self_attention")
            pairs["self"] = module.pairs(x, context.angles)
            rest = {"mask": context.mask, "bias": context.bias, "angles": context.angles}
            if cache is None:
                return module(x, pairs["self"], kernel=context.kernel, **rest)
            return module(x, cache["self"], own=pairs["self"], **rest)

        def attend_cross(x):
            module = attention.Attention(self.config, self.dtype, name="cross_attention")
            pairs["cross"] = cache["cross"] if cache is not None else module.pairs(context.memory)
            return module(x, pairs["cross"], mask=context.memory_mask, kernel=context.memory_kernel)

        x = self._residual("self_attention", x, attend_self)
        if self.cross:
            x = self._residual("cross_attention", x, attend_cross)
        x = self._residual("mlp", x, layers.MLP(self.config, self.dtype, name="mlp"))
        match context.collect:
            case "states":
                return x, x
            case "pairs":
                return x, pairs
            case _:
                return x, None

    def _residual(self, name: str, x: Array, branch) -> Array:
        norm = layers.Norm(self.config, self.dtype, name=f"{name}_norm")
        drop = layers.Dropout(self.config.dropout, name=f"{name}_dropout")
        if self.config.norm_position == "pre":
            x = x + drop(branch(norm(x)))
        else:
            x = norm(x + drop(branch(x)))
        return nn.with_logical_constraint(x, ("batch", "length", "embed"))


def blocks(config: stack.Stack, dtype: jnp.dtype, *, cross: bool) -> nn.Module:
    """All layers of a stack: a module from (x, context, cache or None) to (x, what the layers handed out, stacked).

    The cache's leaves, like the parameters, have the layers as their first axis.
    """
    module = Block
    if config.remat != "none":
        module = nn.remat(module, prevent_cse=not config.looped, policy=_SAVE[config.remat])
    scanned = nn.scan(
        module,
        variable_axes={"params": 0},
        split_rngs={"params": True, "dropout": True},
        in_axes=(nn.broadcast, 0),  # pyright: ignore[reportArgumentType]  annotated int, documented as a pytree
        length=config.layers,
        unroll=min(config.unroll, config.layers),
        metadata_params={nn.PARTITION_NAME: "layers"},
        check_constancy_invariants=False,
    )
    return scanned(config, dtype, cross)
