"""The small layers: products with weights, norms, tables, dropout, and the MLP.

Shapes: B batch, L length, D width, F hidden size of the MLP.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax
from jax.ad_checkpoint import checkpoint_name
from jax.nn import initializers

from models import initial, stack

PRODUCT = "product"
"""Name under which rematerialisation finds the products with weights."""


def activate(name: str, x: Array) -> Array:
    """The activation of that name in `stack.ACTIVATIONS`, elementwise."""
    match name:
        case "gelu":
            return jax.nn.gelu(x, approximate=False)
        case "gelu_tanh":
            return jax.nn.gelu(x, approximate=True)
        case "relu":
            return jax.nn.relu(x)
        case "relu2":
            return jnp.square(jax.nn.relu(x))
        case "silu":
            return jax.nn.silu(x)
        case _:
            raise ValueError(f"activation {name!r} is unknown; choose one of {', '.join(stack.ACTIVATIONS)}")


def recomputed(function, config: stack.Stack):
    """A cheap function whose backward pass keeps the arguments alone: the rest is sooner made again than fetched."""
    return jax.checkpoint(function, prevent_cse=not config.looped)


def product(x: Array, kernel: Array, contract: int) -> Array:
    """x [..., *in] times a float32 kernel [*in, *out] over `contract` axes, in the dtype of x -> [..., *out].

    The derivative is written out for two things that the automatic one lacks: the kernel's gradient comes out of its
    sum in float32, and in float32 the factor that is turned around for it is the smaller one.
    """
    value: Any = _product(contract, x, kernel)
    # A policy of rematerialisation cannot look into a function with a derivative of its own: it goes by this name.
    return checkpoint_name(value, PRODUCT)


def dot(left: Array, right: Array, dims: Any) -> Array:
    """`lax.dot_general` of two arrays of one dtype, in that dtype.

    A CPU multiplies bfloat16 twice as fast when the sums come out in float32 (measured on AVX-512 with jaxlib 0.10);
    elsewhere the hardware sums in float32 anyway, and what devices exchange stays small.
    """
    if left.dtype == jnp.float32:
        return lax.dot_general(left, right, dims)

    def wide(left: Array, right: Array) -> Array:
        return lax.dot_general(left, right, dims, preferred_element_type=jnp.float32).astype(left.dtype)

    return lax.platform_dependent(left, right, cpu=wide, default=lambda a, b: lax.dot_general(a, b, dims))


def _compact(kernel: Array, dtype: jnp.dtype) -> Array:
    """A kernel in the compute dtype, on an accelerator made anew in every layer that uses it.

    Left to itself XLA converts the kernels of all layers before the loop over them and keeps these copies through the
    whole step: half the parameters' bytes again on every chip (seen in TPU programs, libtpu 0.0.51). It does so through
    a barrier too, but not through a rounding, which here leaves the conversion nothing to do: the values are the same.
    """
    if kernel.dtype == dtype:
        return kernel

    return lax.platform_dependent(
        kernel, cpu=lambda kernel: kernel.astype(dtype), default=functools.partial(_rounded, dtype)
    )


def _rounded(dtype: jnp.dtype, x: Array) -> Array:
    """`x.astype(dtype)`, rounded before it is converted."""
    bits = jnp.finfo(dtype)
    return lax.reduce_precision(x, bits.nexp, bits.nmant).astype(dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _product(contract, x, kernel):
    axes = tuple(range(x.ndim - contract, x.ndim)), tuple(range(contract))
    return dot(x, _compact(kernel, x.dtype), (axes, ((), ())))


def _product_forward(contract, x, kernel):
    return _product(contract, x, kernel), (x, kernel)


def _product_backward(contract, saved, dy):
    """First the kernel's gradient, then that of x.

    Without the barrier XLA puts the kernels' gradients off to the end of a layer, holding all that they are made of,
    and makes `dy` anew inside each of them (seen in TPU programs, libtpu 0.0.51; T5 base: 0.12 GiB, a tenth of the
    time to compile). Of a frozen kernel's gradient nothing is left.
    """
    x, kernel = saved
    lead = x.ndim - contract
    outer = tuple(range(lead))
    out = tuple(range(lead, dy.ndim)), tuple(range(contract, kernel.ndim))
    if x.size <= dy.size or x.dtype != jnp.float32:  # a CPU has no bfloat16 product of the other form (jaxlib 0.10)
        dkernel = lax.dot_general(x, dy, ((outer, outer), ((), ())), preferred_element_type=kernel.dtype)
    else:
        dkernel = lax.dot_general(dy, x, ((outer, outer), ((), ())), preferred_element_type=kernel.dtype)
        dkernel = jnp.moveaxis(dkernel, range(-contract, 0), range(contract))
    dy, dkernel = lax.optimization_barrier((dy, dkernel))
    dx = dot(dy, _compact(kernel, x.dtype), (out, ((), ())))
    return dx, dkernel


_product.defvjp(_product_forward, _product_backward)


class Keep(nn.Module):
    """Which elements dropout keeps; all, without a "dropout" key."""

    rate: float

    @nn.compact
    def __call__(self, shape: tuple[int, ...]) -> tuple[Array | None, float]:
        """Booleans of `shape`, or None for all, and the share that is dropped.

        Sixteen random bits an element halve the cost of the generator; the share is exactly what they give.
        """
        threshold = round(self.rate * 2**16)
        if threshold == 0 or not self.has_rng("dropout"):
            return None, 0.0
        bits = jax.random.bits(self.make_rng("dropout"), shape, jnp.uint16)
        return bits >= jnp.uint16(threshold), threshold / 2**16


class Dropout(nn.Module):
    """Zeros with probability `rate`, the rest scaled up so that the mean stays; nothing without a "dropout" key."""

    rate: float

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x of any shape -> the same shape."""
        keep, rate = Keep(self.rate, name="keep")(x.shape)
        if keep is None:
            return x
        return jnp.where(keep, x * jnp.asarray(1 / (1 - rate), x.dtype), jnp.zeros((), x.dtype))


class Dense(nn.Module):
    """Product with a kernel over the last `contract` axes of the input, those being the kernel's first."""

    shape: tuple[int, ...]
    axes: tuple[str, ...]
    std: float
    dtype: jnp.dtype
    contract: int = 1
    bias: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[..., *shape[:contract]] -> [..., *shape[contract:]] in the compute dtype."""
        kernel = initial.parameter(self, "kernel", self.shape, self.axes, self.std)
        y = product(x.astype(self.dtype), kernel, self.contract)
        if self.bias:
            out = slice(self.contract, None)
            bias = initial.parameter(self, "bias", self.shape[out], self.axes[out], initializers.zeros)
            y = y + jnp.broadcast_to(bias.astype(self.dtype), y.shape)
        return y


class Norm(nn.Module):
    """LayerNorm, or RMSNorm (arXiv:1910.07467), over the last axis, in float32 whatever the compute dtype."""

    config: stack.Stack
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[..., D] -> [..., D] in the compute dtype."""
        c, bias = self.config, None
        scale = initial.parameter(self, "scale", x.shape[-1:], ("norm",), initializers.ones)
        if c.norm == "layernorm" and c.norm_bias:
            bias = initial.parameter(self, "bias", x.shape[-1:], ("norm",), initializers.zeros)

        def normed(x, scale, bias):
            x = x.astype(jnp.float32)
            if c.norm == "layernorm":
                x = x - jnp.mean(x, axis=-1, keepdims=True)
            x = x * lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + c.norm_eps)
            x = x * jnp.broadcast_to(scale, x.shape)
            x = x if bias is None else x + jnp.broadcast_to(bias, x.shape)
            return x.astype(self.dtype)

        return recomputed(normed, c)(x, scale, bias)


class Table(nn.Module):
    """Rows of width D picked by id: tokens, positions or types. An id outside the table gives NaN."""

    rows: int
    width: int
    axis: str
    std: float
    dtype: jnp.dtype

    def setup(self):
        """Make the table at once: a tied output uses it without a lookup."""
        self.embedding = initial.parameter(self, "embedding", (self.rows, self.width), (self.axis, "embed"), self.std)

    def __call__(self, ids: Array) -> Array:
        """[...] integers -> [..., D] in the compute dtype."""
        return jnp.take(self.embedding, ids, axis=0).astype(self.dtype)


class MLP(nn.Module):
    """The feed-forward sublayer, plain or gated."""

    config: stack.Stack
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[B, L, D] -> [B, L, D]."""
        c = self.config
        inner = {"shape": (c.width, c.mlp), "axes": ("embed", "mlp"), "std": c.init.kernel(c.width)}
        hidden = Dense(**inner, dtype=self.dtype, bias=c.mlp_bias, name="wi")(x)
        if c.gated:
            gate = Dense(**inner, dtype=self.dtype, bias=c.mlp_bias, name="wi_gate")(x)
            hidden = recomputed(lambda gate, x: activate(c.activation, gate) * x, c)(gate, hidden)
        else:
            hidden = recomputed(lambda x: activate(c.activation, x), c)(hidden)
        hidden = nn.with_logical_constraint(hidden, ("batch", "length", "mlp"))
        hidden = Dropout(c.mlp_dropout, name="dropout")(hidden)
        std = c.init.output(c.mlp, c.layers)
        return Dense((c.mlp, c.width), ("mlp", "embed"), std, self.dtype, bias=c.mlp_bias, name="wo")(hidden)
