"""Attention by a kernel in place of the plain path: which one, for whom, and how it lies on a mesh.

"bucketed"  our kernel with T5's relative bias (models/bucketed.py), and splash for the cross-attention of such a stack.
"splash"    JAX's splash attention for TPUs, where there is no bias on the scores.
"cudnn"     cuDNN's flash attention for NVIDIA GPUs, in bfloat16, where there is no bias on the scores.

Shapes: B batch, H query heads, G key and value heads, Q queries, K keys, C head size.
"""

import contextlib
import contextvars
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jax import Array
from jax.experimental.pallas.ops.tpu import splash_attention as splash

from models import bucketed, stack

UNIT = 128
"""A TPU kernel's lengths are multiples of the lanes of a vector."""
BLOCKS = (512, 256, UNIT)
PLATFORMS = {"bucketed": ("tpu",), "splash": ("tpu",), "cudnn": ("gpu", "cuda")}

_interpreted = contextvars.ContextVar("interpreted", default=False)


@struct.dataclass
class Kernel:
    """One attention as all layers of a stack call it.

    queries, keys   segments [B, Q] and [B, K].
    seen            [B, Q], whether a query sees anything; the others get zeros.
    table           [buckets, H] of the relative bias, or None.
    causal          whether later keys are hidden.
    """

    queries: Array
    keys: Array
    seen: Array
    table: Array | None
    config: stack.Stack = struct.field(pytree_node=False)
    causal: bool = struct.field(pytree_node=False, default=False)

    def __call__(self, query: Array, key: Array, value: Array) -> Array:
        """query [B, H, Q, C], key and value [B, G, C, K] -> [B, H, Q, C], as `attention.attend` without dropout."""
        if self.config.attention == "cudnn":
            function = functools.partial(_cudnn, self.causal)
        elif self.table is None:
            function = functools.partial(_splash, self.causal, _interpreted.get())
        else:
            function = functools.partial(_bucketed, self._shape())
        heads, rows = ("batch", "heads"), ("batch",)
        names = (heads, ("batch", "kv_heads"), ("batch", "kv_heads"), rows, rows, rows)
        args = (query, key, value, self.queries, self.keys, self.seen)
        if self.table is not None:
            names, args = (*names, (None, "heads")), (*args, self.table)
        return _spread(function, names, heads)(*args)

    def _shape(self) -> bucketed.Shape:
        c = self.config
        found = bucketed.buckets(bidirectional=not self.causal, count=c.buckets, furthest=c.max_distance)
        return bucketed.Shape(
            bias=found, causal=self.causal, block=_block(self.queries.shape[1]), interpret=_interpreted.get()
        )


def make(
    config: stack.Stack, queries: Array, keys: Array | None = None, *, table: Array | None = None, causal: bool = False
) -> Kernel:
    """The kernel of a stack for segments [B, Q] of the queries and, in cross-attention, [B, K] of the keys.

    Raises:
      ValueError: the kernel is for another platform than the program's, or it doesn't take these lengths.
    """
    for problem in foreign({"Stack": config}, _platform()):
        raise ValueError(problem)
    seen = queries != 0
    if keys is not None:
        seen = seen & jnp.any(queries[:, :, None] == keys[:, None, :], axis=2)
    lengths = {"queries": queries.shape[1], "keys": queries.shape[1] if keys is None else keys.shape[1]}
    for problem in _lengths(config, lengths):
        raise ValueError(f"Stack: {problem}")
    return Kernel(queries, queries if keys is None else keys, seen, table, config, causal)


def problems(stacks: Mapping[str, stack.Stack], lengths: Mapping[str, int], dtype: str) -> list[str]:
    """Why the stacks' kernels can't serve a batch, one line each.

    `stacks` by side, "decoder", or any other for one that reads the encoder's side; `lengths` of the batch's features,
    <side>_inputs and decoder_prefix.
    """
    found: list[str] = []
    for side, config in stacks.items():
        if config.attention == "plain":
            continue
        # A decoder reads the encoder's side too, where there is one.
        sides = ("encoder", "decoder") if side == "decoder" else ("encoder",)
        own = {f"{name}_inputs": lengths[f"{name}_inputs"] for name in sides if f"{name}_inputs" in lengths}
        found += [f"{side}: {line}" for line in _lengths(config, own)]
        if side == "decoder" and "decoder_prefix" in lengths:
            found.append(
                f"{side}: attention {config.attention!r} has no open prefix and the data gives decoder_prefix; "
                "set attention = 'plain'"
            )
        if config.attention == "cudnn" and dtype != "bfloat16":
            found.append(f"{side}: attention 'cudnn' computes in bfloat16 and the model in {dtype}; set its dtype")
    return found


def foreign(stacks: Mapping[str, stack.Stack], platform: str) -> list[str]:
    """Why the stacks' kernels can't be compiled for a platform of JAX's, one line each."""
    return [
        f"{side}: attention {of.attention!r} is a kernel for {PLATFORMS[of.attention][0].upper()}s and this program is "
        f"for {platform!r}; set Stack.attention = 'plain'"
        for side, of in stacks.items()
        if of.attention != "plain" and platform not in PLATFORMS[of.attention] and not _interpreted.get()
    ]


@contextlib.contextmanager
def interpreted() -> Iterator[None]:
    """Inside, kernels for TPUs run in Pallas's interpreter on any platform: exact and slow, for tests."""
    token = _interpreted.set(True)
    try:
        yield
    finally:
        _interpreted.reset(token)


def _lengths(config: stack.Stack, lengths: Mapping[str, int]) -> list[str]:
    if config.attention == "cudnn":
        return []
    return [
        f"attention {config.attention!r} takes lengths that are multiples of {UNIT} and {name} has {length}; "
        f"make it {-(-length // UNIT) * UNIT} or set attention = 'plain'"
        for name, length in lengths.items()
        if length % UNIT
    ]


def _block(length: int) -> int:
    return next(block for block in BLOCKS if length % block == 0)


def _platform() -> str:
    """What the traced program is for: the mesh in force knows, else it is this machine's default."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    return jax.default_backend() if device is None else device.platform


def _spread(function, names: tuple[tuple[str | None, ...], ...], out: tuple[str | None, ...]):
    """`function` for each device's own rows and heads: XLA can't split a kernel by itself."""
    if jax.sharding.get_abstract_mesh().empty:
        return function
    specs = [nn.logical_to_mesh_axes(axes) for axes in names]
    if specs[0] != specs[1]:
        raise ValueError(
            f"Rules: a kernel needs heads and kv_heads split alike, not {specs[0]} and {specs[1]}; "
            "give both one mesh axis, or set Stack.attention = 'plain'"
        )
    # The kernels' shapes carry no note of which mesh axes they vary over, so that can't be checked.
    return jax.shard_map(function, in_specs=tuple(specs), out_specs=nn.logical_to_mesh_axes(out), check_vma=False)


def _bucketed(shape: bucketed.Shape, query, key, value, segments, keys, seen, table):
    del keys, seen
    return bucketed.attend(query, key, value, segments, table, shape)


def _splash(causal: bool, interpret: bool, query, key, value, queries, keys, seen):
    shape = (query.shape[2], key.shape[3])
    mask = splash.CausalMask(shape) if causal else splash.FullMask(shape)
    q, k = (_block(length) for length in shape)
    sizes = splash.BlockSizes(
        block_q=q,
        block_kv=k,
        block_q_dkv=q,
        block_kv_dkv=k,
        block_q_dq=q,
        block_kv_dq=k,
        k_layout=splash.QKVLayout.SEQ_MINOR,
        v_layout=splash.QKVLayout.SEQ_MINOR,
    )
    kernel = splash.make_splash_mha(
        splash.MultiHeadMask([mask] * query.shape[1]),
        block_sizes=sizes,
        head_shards=1,
        q_seq_shards=1,
        interpret=interpret,
    )
    # The layout says that keys lie as they are here; the turn in between is one on paper.
    out: Any = jax.vmap(kernel)(query, *(x.swapaxes(2, 3) for x in (key, value)), splash.SegmentIds(queries, keys))
    return jnp.where(seen[:, None, :, None], out, jnp.zeros((), out.dtype)).astype(query.dtype)


def _cudnn(causal: bool, query, key, value, queries, keys, seen):
    mask = (queries[:, :, None] == keys[:, None, :])[:, None]
    out = jax.nn.dot_product_attention(
        query.transpose(0, 2, 1, 3),
        *(x.transpose(0, 3, 1, 2) for x in (key, value)),
        mask=mask,
        is_causal=causal,
        scale=1.0,
        implementation="cudnn",
    )
    return jnp.where(seen[:, None, :, None], out.transpose(0, 2, 1, 3), jnp.zeros((), out.dtype))
