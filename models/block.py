"""One transformer layer, and the stack of them: scanned or unrolled, with or without rematerialisation.

Parameters of all layers lie stacked on a leading axis "layers" either way.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jax import Array

from models import attention, layers, positions, stack

_SAVE = {"dots": jax.checkpoint_policies.save_only_these_names(layers.PRODUCT), "full": None}


@struct.dataclass
class Context:
    """What every layer of a stack shares.

    mask     [B, 1, L, L] from `attention.hide`; in a one-token step [B, 1, 1, T + 1], the token's own key last.
    bias     [H, L, L] relative bias or None; in a one-token step [B or 1, H, 1, T + 1].
    angles   rotary angles of the places of x, or None.
    local_mask, local_angles   the same two for layers with local attention, if the stack has such.
    distance key-minus-query distances [B, T + 1] in a one-token step, for layers with a relative bias of their own.
    memory, memory_mask   encoder states [B, S, D] and [B, 1, L, S], for layers with cross-attention; in a one-token
             step the cache holds keys and values in place of `memory`.
    kernel, memory_kernel   `kernels.Kernel` of self-attention and cross-attention, in place of masks and bias; or None.
    collect  what each layer hands out besides its output: "nothing", "states" (its output), "pairs" (a dict of the
             keys and values of "self" and, with cross-attention, "cross").
    """

    mask: Array | None
    bias: Array | None = None
    angles: tuple[Array, Array] | None = None
    local_mask: Array | None = None
    local_angles: tuple[Array, Array] | None = None
    distance: Array | None = None
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
    decoder: bool = False

    @nn.compact
    def __call__(
        self, x: Array, context: Context, cache: dict[str, Any] | None, place: Array | None
    ) -> tuple[Array, Any]:
        """x [B, L, D] -> the same, and what `context.collect` asks for; `place` is the layer's number if it matters.

        With a `cache` of this layer's earlier pairs, x is [B, 1, D] and "self" pairs handed out are this token's alone.
        """
        pairs = {}
        mask, angles = self._view(context, place)
        bias = self._bias(x, context)

        def attend_self(x):
            module = attention.Attention(self.config, self.dtype, name="self_attention")
            pairs["self"] = module.pairs(x, angles)
            rest = {"mask": mask, "bias": bias, "angles": angles}
            if cache is None:
                return module(x, pairs["self"], kernel=context.kernel, **rest)
            return module(x, cache["self"], own=pairs["self"], **rest)

        def attend_cross(x):
            module = attention.Attention(self.config, self.dtype, name="cross_attention")
            pairs["cross"] = cache["cross"] if cache is not None else module.pairs(context.memory)
            return module(x, pairs["cross"], mask=context.memory_mask, kernel=context.memory_kernel)

        x = self._residual("self_attention", x, attend_self, None if self.config.first_norm else place)
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

    def _view(self, context: Context, place: Array | None) -> Any:
        """The mask and the rotary angles of this layer: those of local attention, or of the whole row."""
        whole = context.mask, context.angles
        if self.config.local is None or place is None:
            return whole
        local = context.local_mask, context.local_angles
        return jax.tree.map(lambda a, b: jnp.where(place % self.config.global_every == 0, a, b), whole, local)

    def _bias(self, x: Array, context: Context) -> Array | None:
        if self.config.positions != "relative_layers":
            return context.bias
        table = positions.RelativeBias(self.config, bidirectional=not self.decoder, name="relative_bias")
        return table(x.shape[1], x.shape[1]) if context.distance is None else table.step(context.distance)

    def _residual(self, name: str, x: Array, branch, place: Array | None = None) -> Array:
        """x with its branch; where `place` is 0 the branch reads x as it is, without its norm."""
        norm = layers.Norm(self.config, self.dtype, name=f"{name}_norm")
        drop = layers.Dropout(self.config.dropout, name=f"{name}_dropout")
        if self.config.norm_position == "pre":
            normed = norm(x) if place is None else jnp.where(place == 0, x, norm(x))
            x = x + drop(branch(normed))
        else:
            x = norm(x + drop(branch(x)))
        return nn.with_logical_constraint(x, ("batch", "length", "embed"))


def blocks(config: stack.Stack, dtype: jnp.dtype, *, cross: bool, decoder: bool) -> nn.Module:
    """All layers: a module from (x, context, cache or None, places or None) to (x, what they handed out, stacked).

    The cache's leaves, like the parameters, have the layers as their first axis; the places are 0 to layers - 1.
    """
    module = Block
    if config.remat != "none":
        module = nn.remat(module, prevent_cse=not config.looped, policy=_SAVE[config.remat])
    scanned = nn.scan(
        module,
        variable_axes={"params": 0},
        split_rngs={"params": True, "dropout": True},
        in_axes=(nn.broadcast, 0, 0),  # pyright: ignore[reportArgumentType]  annotated int, documented as a pytree
        length=config.layers,
        unroll=min(config.unroll, config.layers),
        metadata_params={nn.PARTITION_NAME: "layers"},
        check_constancy_invariants=False,
    )
    return scanned(config, dtype, cross, decoder)
