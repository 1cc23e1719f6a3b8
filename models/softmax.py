"""Cross-entropy over a large vocabulary, a few tokens at a time.

The logits of all tokens, [tokens, vocabulary], are the largest matrix of a training step, and nothing needs them whole:
the gradient of a token's loss is known as soon as its logits are. So under differentiation the forward pass makes the
gradients too, chunk by chunk, and the backward pass only scales them (Hsu et al. 2024, Liger Kernel, arXiv:2410.10989).

Where rows lie on several devices, each sums the kernel's gradient over its own rows in all chunks; the sums are added
up once, at the end. Where devices share a row, each takes its own stretch of it: the stretches are rows from then on.

Shapes: B batch, M targets a row, D width, V vocabulary, n chunks of m targets a row each, G parts of the rows.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from models import layers, placing, quantile
from models import readout as readouts


class _Options(NamedTuple):
    scale: float
    z_loss: float
    label_smoothing: float
    chunk: int
    names: tuple[str, ...]
    """The logical axes over whose devices the rows are spread."""


def cross_entropy(
    readout: readouts.Readout,
    hidden: Array,
    targets: Array,
    weights: Array,
    *,
    z_loss: float = 0.0,
    label_smoothing: float = 0.0,
    chunk: int = 4096,
    draw: quantile.Draw | None = None,
) -> tuple[Array, dict[str, Array]]:
    """Weighted sum of the tokens' losses, and what each token did.

    With p = softmax(logits) and Z its denominator a token's loss is -sum(q log p) + z_loss (log Z)^2 (PaLM,
    arXiv:2204.02311), where q is 1 at the target, or with label smoothing 1 - label_smoothing there and
    label_smoothing / V more everywhere.

    Args:
      readout: how states become logits.
      hidden: [..., D] states; products are in their dtype, sums and softmax in float32. Rows (the first axis) may lie
        on different devices: a chunk takes a few targets of every row.
      targets: [...] token ids.
      weights: [...] float32; a token of weight 0 adds nothing to the sum or its gradients.
      z_loss, label_smoothing: as above.
      chunk: tokens of a device whose logits exist there at one time, at least one of each row.
      draw: also draw a token from each one's logits; its arrays are [...].

    Returns:
      The sum, a float32 scalar, differentiable in the readout, hidden and weights; and a dict of float32 [...] without
      gradient: "loss", the negative log-likelihood of the target alone, whatever z_loss and label_smoothing are, and
      "correct", 1 where the target's logit is above all others. With `draw` also "drawn", the tokens (int32), and
      "entropy" of softmax(logits), in nats.

    Raises:
      ValueError: shapes differ, or an option is out of range.
    """
    _check(hidden, targets, weights, label_smoothing, chunk)
    shape = targets.shape
    rows = shape[0] if len(shape) > 1 else 1
    length, across, along = targets.size // rows, placing.parts("batch"), placing.parts("length")
    apart = along > 1 and rows % across == 0 and length % along == 0
    grid = (across, rows // across, along, length // along) if apart else (1, rows, 1, length)
    names = ("batch", "length") if apart else ("batch",)
    options = _Options(readout.scale, z_loss, label_smoothing, chunk, names)
    summed: Any = _summed(
        options,
        _fold(hidden.reshape(rows, -1, hidden.shape[-1]), grid, names),
        readout.kernel,
        readout.bias,
        _fold(targets.reshape(rows, -1), grid, names),
        _fold(weights.reshape(rows, -1), grid, names),
        None if draw is None else quantile.Draw(*(_fold(x.reshape(rows, -1), grid, names) for x in draw)),
    )
    total, tokens = summed
    return total, {name: lax.stop_gradient(_unfold(value, grid).reshape(shape)) for name, value in tokens.items()}


def _fold(x: Array, grid: tuple[int, ...], names: tuple[str, ...]) -> Array:
    """[B, M, ...] -> [B s, M / s, ...]: the s stretches of every row as rows, those of a device side by side."""
    if grid[2] == 1:
        return x
    x = x.reshape(*grid, *x.shape[2:]).swapaxes(1, 2)
    return placing.first(x.reshape(-1, *x.shape[3:]), *names)


def _unfold(x: Array, grid: tuple[int, ...]) -> Array:
    """The inverse of `_fold`, of what each token did."""
    if grid[2] == 1:
        return x
    across, rows, along, length = grid
    return x.reshape(across, along, rows, length).swapaxes(1, 2)


def _check(hidden: Array, targets: Array, weights: Array, label_smoothing: float, chunk: int):
    if hidden.shape[:-1] != targets.shape or targets.shape != weights.shape or not targets.shape:
        raise ValueError(
            f"cross_entropy: hidden {hidden.shape}, targets {targets.shape} and weights {weights.shape} do not match; "
            "give hidden [..., D] and one target and one weight for each of its states"
        )
    if chunk < 1:
        raise ValueError(f"cross_entropy: chunk is {chunk}; give at least 1 token")
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"cross_entropy: label_smoothing is {label_smoothing}; give a number from 0 to below 1")


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _summed(options: _Options, hidden, kernel, bias, targets, weights, draw):
    """Sum of weight x loss; and what `cross_entropy` tells of each token [B, M]."""

    def step(total, piece):
        losses, tokens, _ = _losses(options, kernel, bias, piece)
        return total + jnp.sum(losses * piece.weights), tokens

    pieces = _split(options, hidden, targets, weights, draw)
    total, tokens = _over_chunks(step, jnp.zeros((), jnp.float32), pieces)
    return total, {name: _join(x, targets.shape[1]) for name, x in tokens.items()}


def _forward(options: _Options, hidden, kernel, bias, targets, weights, draw):
    compact = kernel.astype(hidden.dtype)

    def step(carry, piece):
        total, grad_kernel, grad_bias = carry
        losses, tokens, softmax = _losses(options, compact, bias, piece)
        grad = _gradient(options, piece, softmax)
        total = total + jnp.sum(losses * piece.weights)
        if grad_bias is not None:
            grad_bias = grad_bias + jnp.sum(_apart(options, grad), axis=(1, 2))
        grad = (grad * options.scale if options.scale != 1 else grad).astype(hidden.dtype)
        grad_hidden = layers.dot(grad, compact, (((2,), (0,)), ((), ())))
        # Not through + on a fresh zero: a single chunk, the usual case on a small machine, then needs no addition.
        product = jnp.einsum(
            "gbmv,gbmd->gvd",
            _apart(options, grad),
            _apart(options, piece.hidden),
            preferred_element_type=jnp.float32,
        )
        grad_kernel = product if grad_kernel is None else grad_kernel + product
        return (total, grad_kernel, grad_bias), (tokens, losses, grad_hidden)

    pieces = _split(options, hidden, targets, weights, draw)
    single = pieces.targets.shape[0] == 1
    parts = _parts(options, hidden.shape[0])
    start = (
        jnp.zeros((), jnp.float32),
        None if single else placing.first(jnp.zeros((parts, *kernel.shape), jnp.float32), *options.names),
        None if bias is None else placing.first(jnp.zeros((parts, *bias.shape), jnp.float32), *options.names),
    )
    (total, *grads), made = _over_chunks(step, start, pieces)
    grad_kernel, grad_bias = (None if grad is None else grad.sum(axis=0) for grad in grads)
    tokens, losses, grad_hidden = jax.tree.map(lambda x: _join(x, targets.shape[1]), made)
    # Cotangents have the dtype of what they belong to; empty arrays carry it from here to the backward pass.
    dtypes = [None if x is None else jnp.zeros((0,), x.dtype) for x in (kernel, bias)]
    return (total, tokens), (grad_hidden, grad_kernel, grad_bias, losses, dtypes)


def _backward(options: _Options, kept, cotangents):
    del options
    grad_hidden, grad_kernel, grad_bias, losses, (kernel, bias) = kept
    by = cotangents[0]
    return (
        grad_hidden * by.astype(grad_hidden.dtype),
        (grad_kernel * by).astype(kernel.dtype),
        None if bias is None else (grad_bias * by).astype(bias.dtype),
        None,
        losses * by,
        None,
    )


_summed.defvjp(_forward, _backward)


class _Piece(NamedTuple):
    """One chunk, or with a leading axis n all of them."""

    hidden: Array
    targets: Array
    weights: Array
    draw: quantile.Draw | None


class _Softmax(NamedTuple):
    """exp(logits - their maximum) [B, m, V], its sum and log Z [B, m], and where the target is [B, m, V]."""

    raised: Array
    denominator: Array
    log_z: Array
    at_target: Array


def _losses(options: _Options, kernel: Array, bias: Array | None, piece: _Piece):
    """Of a chunk [B, m]: loss, what `cross_entropy` tells of each token, and its softmax."""
    logits = readouts.Readout(kernel, bias, options.scale).logits(piece.hidden)
    # A comparison instead of a lookup: it stays local where the vocabulary is spread over devices, and it fuses.
    at_target = lax.broadcasted_iota(piece.targets.dtype, logits.shape, 2) == piece.targets[..., None]
    target = jnp.sum(jnp.where(at_target, logits, 0.0), axis=-1)
    top = jnp.max(logits, axis=-1)
    raised = jnp.exp(logits - top[..., None])
    denominator = jnp.sum(raised, axis=-1)
    log_z = jnp.log(denominator) + top
    nll = log_z - target
    correct = (jnp.sum(logits >= target[..., None], axis=-1) == 1).astype(jnp.float32)
    losses = nll
    if options.label_smoothing:
        losses = losses + options.label_smoothing * (target - jnp.mean(logits, axis=-1))
    if options.z_loss:
        losses = losses + options.z_loss * jnp.square(log_z)
    tokens = {"loss": nll, "correct": correct}
    if piece.draw is not None:
        mean = jnp.sum(raised * (logits - top[..., None]), axis=-1) / denominator
        tokens |= {"drawn": quantile.pick(logits, piece.draw), "entropy": jnp.log(denominator) - mean}
    return losses, tokens, _Softmax(raised, denominator, log_z, at_target)


def _gradient(options: _Options, piece: _Piece, softmax: _Softmax) -> Array:
    """d(sum of weight x loss) / d logits [B, m, V]."""
    smooth, weights = options.label_smoothing, piece.weights
    factor = weights / softmax.denominator
    if options.z_loss:
        factor = factor * (1 + 2 * options.z_loss * softmax.log_z)
    grad = softmax.raised * factor[..., None] - jnp.where(softmax.at_target, (1 - smooth) * weights[..., None], 0.0)
    return grad - (smooth / grad.shape[-1] * weights)[..., None] if smooth else grad


def _split(options: _Options, hidden: Array, targets: Array, weights: Array, draw: quantile.Draw | None) -> _Piece:
    """Chunks [n, B, m, ...]: cut along a row's targets and not along the rows, which may lie on different devices."""
    rows, length = targets.shape
    count = max(1, -(-length // max(1, options.chunk * _parts(options, rows) // rows)))
    size = -(-length // count)

    def cut(x: Array, fill: str = "constant") -> Array:
        x = jnp.pad(x, ((0, 0), (0, count * size - length)) + ((0, 0),) * (x.ndim - 2), mode=fill)
        return jnp.moveaxis(x.reshape(rows, count, size, *x.shape[2:]), 1, 0)

    # Padding is drawn too and thrown away, at its neighbour's temperature: 0 would give NaN.
    drawn = None if draw is None else quantile.Draw(*(cut(x, "edge") for x in draw))
    return _Piece(cut(hidden), cut(targets), cut(weights), drawn)


def _parts(options: _Options, rows: int) -> int:
    """How many devices have rows of their own."""
    parts = placing.parts(*options.names)
    return parts if rows % parts == 0 else 1


def _apart(options: _Options, x: Array) -> Array:
    """[B, ...] -> [G, B / G, ...], each part on its device."""
    return placing.first(x.reshape(_parts(options, x.shape[0]), -1, *x.shape[1:]), *options.names)


def _join(x: Array, length: int) -> Array:
    """[n, B, m, ...] -> [B, M, ...], without the padding."""
    x = jnp.moveaxis(x, 0, 1)
    return x.reshape(x.shape[0], -1, *x.shape[3:])[:, :length]


def _over_chunks(step, start, pieces: _Piece):
    """`lax.scan`, without a loop where there is one chunk."""
    if pieces.targets.shape[0] > 1:
        return lax.scan(step, start, pieces)
    carry, out = step(start, jax.tree.map(lambda x: x[0], pieces))
    return carry, jax.tree.map(lambda x: x[None], out)
