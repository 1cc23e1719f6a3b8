"""What encoders and decoders have in common: embedded tokens in, positions, layers, final norm, states out."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jax.nn import initializers

from models import attention, block, initial, kernels, layers, positions, stack


class Trunk(nn.Module):
    """A stack with its positions, types and norms; `decoder` makes it causal, `cross` gives it cross-attention."""

    config: stack.Stack
    dtype: jnp.dtype
    decoder: bool = False
    cross: bool = False
    fused: int = 0
    """How many states of an encoder `fuse` mixes; 0 for no fusion."""

    def setup(self):
        """Name the parts."""
        c = self.config
        table = {"width": c.table_width, "std": c.init.embedding, "dtype": self.dtype}
        if c.learned:
            self.position_embedder = layers.Table(rows=c.position_offset + c.max_positions, axis="positions", **table)
        if c.types:
            self.type_embedder = layers.Table(rows=c.types, axis="types", **table)
        if c.relative:
            self.relative_bias = positions.RelativeBias(c, bidirectional=not self.decoder)
        if c.embedding_norm:
            self.embedding_norm = layers.Norm(c, self.dtype)
        if c.embedding_width is not None:
            shape, std = (c.embedding_width, c.width), c.init.kernel(c.embedding_width)
            self.embedding_projection = layers.Dense(shape, ("norm", "embed"), std, self.dtype, bias=True)
        self.layers = block.blocks(c, self.dtype, cross=self.cross, decoder=self.decoder)
        if c.closing_norm:
            self.final_norm = layers.Norm(c, self.dtype)
        if self.fused:
            self.fusion = Fusion(self.fused)
        self.dropout = layers.Dropout(c.dropout)

    def __call__(
        self,
        x: Array,
        *,
        segments: Array,
        places: Array,
        types: Array | None = None,
        prefix: Array | None = None,
        memory: tuple[Array, Array] | None = None,
        collect: str = "nothing",
    ) -> tuple[Array, Any]:
        """Token embeddings [B, L, D] -> states [B, L, D], and what `block.Context.collect` asked for.

        segments, places (positions), types and prefix are [B, L]; memory is what cross-attention reads, states
        [B, S, D] and their segments [B, S]. The states collected are [layers + 1, B, L, D], from the embeddings to
        the last layer, none of them through the final norm.
        """
        x = self._embed(x, places, types)
        context = self._context(segments, places, prefix, memory, collect)
        last, extra = self.layers(x, context, None, self._numbers())
        if collect == "states":
            extra = jnp.concatenate([x[None], extra])
        return self.close(last), extra

    def _context(self, segments, places, prefix, memory, collect: str) -> block.Context:
        """What the layers share; see `__call__`."""
        angles = self._angles(places)
        states, seen = (None, None) if memory is None else memory
        # Parameters are made, and caches filled, from rows too short for a kernel: both are plain.
        if self.config.attention != "plain" and not self.is_initializing() and collect != "pairs":
            if prefix is not None:
                raise ValueError(f"Stack: attention {self.config.attention!r} has no open prefix; set it to 'plain'")
            table = self.relative_bias.embedding if self.config.relative else None
            return block.Context(
                mask=None,
                angles=angles,
                memory=states,
                kernel=kernels.make(self.config, segments, table=table, causal=self.decoder),
                memory_kernel=None if seen is None else kernels.make(self.config, segments, seen),
                collect=collect,
            )
        length = segments.shape[1]
        mask = attention.causal_mask(segments, prefix) if self.decoder else attention.segment_mask(segments, segments)
        local = None
        if self.config.local is not None:
            place = jnp.arange(length)
            near = jnp.abs(place[:, None] - place[None, :]) <= self.config.local
            local = attention.hide(mask & near[None, None], self.dtype)
        return block.Context(
            mask=attention.hide(mask, self.dtype),
            bias=self.relative_bias(length, length) if self.config.relative else None,
            angles=angles,
            local_mask=local,
            local_angles=self._angles(places, local=True),
            memory=states,
            memory_mask=None if seen is None else attention.hide(attention.segment_mask(segments, seen), self.dtype),
            collect=collect,
        )

    def step(self, x: Array, places: Array, cache: dict[str, Any]) -> tuple[Array, tuple[Array, Array]]:
        """One token a row: embeddings [B, 1, D] at places [B] -> states [B, 1, D], and its own pairs, stacked by layer.

        `cache` is as `cache.start` makes it.
        """
        x = self._embed(x, places[:, None], None)
        slots = jnp.arange(cache["self"][0].shape[4])
        before = slots[None, :] < places[:, None]
        distance = jnp.concatenate([slots[None, :] - places[:, None], jnp.zeros_like(places)[:, None]], axis=1)
        mask = jnp.concatenate([before, jnp.ones_like(before[:, :1])], axis=1)[:, None, None, :]
        local = None
        if self.config.local is not None:
            local = mask & (distance >= -self.config.local)[:, None, None, :]
        context = block.Context(
            mask=attention.hide(mask, self.dtype),
            bias=self.relative_bias.step(distance) if self.config.relative else None,
            angles=self._angles(places[:, None]),
            local_mask=None if local is None else attention.hide(local, self.dtype),
            local_angles=self._angles(places[:, None], local=True),
            distance=distance,
            memory_mask=attention.hide(cache["seen"][0][:, None, None], self.dtype) if self.cross else None,
            collect="pairs",
        )
        layered = {name: cache[name] for name in ("self", "cross") if name in cache}
        x, pairs = self.layers(x, context, layered, self._numbers())
        return self.close(x), pairs["self"]

    def close(self, x: Array) -> Array:
        """States after the last layer [..., D] through the final norm, if there is one."""
        return self.final_norm(x) if self.config.closing_norm else x

    def fuse(self, states: Array) -> Array:
        """Mix of an encoder's collected states [fused, B, S, D] -> [B, S, D]; see `Fusion`."""
        return self.fusion(states)

    def _embed(self, x: Array, places: Array, types: Array | None) -> Array:
        c = self.config
        if c.embedding_scale != 1:
            x = x * jnp.asarray(c.embedding_scale, x.dtype)
        if c.learned:
            x = x + self.position_embedder(places + c.position_offset)
        if c.types:
            x = x + self.type_embedder(jnp.zeros_like(places) if types is None else types)
        if c.embedding_norm:
            x = self.embedding_norm(x)
        x = self.dropout(x)
        if c.embedding_width is not None:
            x = self.embedding_projection(x)
        return nn.with_logical_constraint(x, ("batch", "length", "embed"))

    def _numbers(self) -> Array | None:
        return jnp.arange(self.config.layers) if self.config.uneven else None

    def _angles(self, places: Array, *, local: bool = False) -> tuple[Array, Array] | None:
        c = self.config
        if not c.rotary or (local and c.local is None):
            return None
        if local and c.local_rotary_base is not None:
            return positions.rotation(places, size=c.size, base=c.local_rotary_base)
        return positions.rotation(places, size=c.size, base=c.rotary_base, scaling=c.rotary_scaling)


class Fusion(nn.Module):
    """Attention fusion (Cao, Satya Prakash and Hamza, 2022): a softmax-weighted mean of all states of an encoder."""

    states: int

    @nn.compact
    def __call__(self, states: Array) -> Array:
        """[states, ..., D] -> [..., D]; the weights start equal."""
        weights = initial.parameter(self, "weights", (self.states,), ("norm",), initializers.zeros)
        return jnp.tensordot(nn.softmax(weights).astype(states.dtype), states, axes=1)
