"""Adafactor's direction (Shazeer & Stern 2018, https://arxiv.org/abs/1804.04235), every layer of a stack by itself.

optax.adafactor takes a stack of layers for one tensor: it may factor over the layer axis, and its clipping and its
relative rate mix the layers. Here all means run inside a layer, so a stack moves exactly as its layers would apart.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from recipes import matrices


class State(NamedTuple):
    """Second moments, by path; a parameter is either in `row` and `column` or in `full`.

    Attributes:
        count: updates so far, int32 [].
        row: mean squares over a matrix's second side, [layers?, first side].
        column: mean squares over its first side, [layers?, second side].
        full: mean squares, entry by entry, of the parameter's shape.
        mean: mean updates where there is momentum, of the parameter's shape.
    """

    count: jax.Array
    row: dict[str, jax.Array]
    column: dict[str, jax.Array]
    full: dict[str, jax.Array]
    mean: dict[str, jax.Array]


def direction(
    views: Mapping[str, matrices.View],
    *,
    decay_rate: float,
    factor_from: int,
    threshold: float | None,
    relative: bool,
    momentum: float | None,
    eps: float,
) -> optax.GradientTransformationExtraArgs:
    """Returns the transformation from gradients to updates at rate 1; optimizers.Adafactor explains the arguments."""
    factored = {path for path, view in views.items() if view.matrix and min(view.sides) >= factor_from}

    def init(params: Any) -> State:
        joined = {path: jnp.zeros(views[path].joined, param.dtype) for path, param in params.items()}
        return State(
            count=jnp.zeros((), jnp.int32),
            row={path: joined[path][..., 0] for path in params if path in factored},
            column={path: joined[path][..., 0, :] for path in params if path in factored},
            full={path: jnp.zeros_like(param) for path, param in params.items() if path not in factored},
            mean={path: jnp.zeros_like(param) for path, param in params.items() if momentum is not None},
        )

    def update(updates: Any, state: State, params: Any = None, **_: Any) -> tuple[dict[str, jax.Array], State]:
        kept = 1.0 - (state.count.astype(jnp.float32) + 1.0) ** -decay_rate
        row, column, full, mean, steps = {}, {}, {}, {}, {}
        for path, grad in updates.items():
            view = views[path]
            square = jnp.square(grad) + eps
            if path in factored:
                square = square.reshape(view.joined)
                row[path] = _blend(kept, state.row[path], square.mean(-1))
                column[path] = _blend(kept, state.column[path], square.mean(-2))
                # The rank-one estimate is row × column over the mean of either; the mean goes to the rows.
                rows = jax.lax.rsqrt(row[path] / row[path].mean(-1, keepdims=True))
                scale = rows[..., :, None] * jax.lax.rsqrt(column[path])[..., None, :]
                step = (grad.reshape(view.joined) * scale).reshape(view.shape)
            else:
                full[path] = _blend(kept, state.full[path], square)
                step = grad * jax.lax.rsqrt(full[path])
            if threshold is not None:
                step = step / jnp.maximum(_rms(step, view) / threshold, 1.0)
            if relative:
                step = step * jnp.maximum(_rms(params[path], view), 1e-3)
            if momentum is not None:
                mean[path] = step = _blend(momentum, state.mean[path], step)
            steps[path] = step
        return steps, State(state.count + 1, row, column, full, mean)

    return optax.GradientTransformationExtraArgs(init, update)  # pyright: ignore[reportArgumentType]


def _blend(kept: Any, old: jax.Array, new: jax.Array) -> jax.Array:
    return kept * old + (1.0 - kept) * new


def _rms(value: jax.Array, view: matrices.View) -> jax.Array:
    """Root mean square of each layer, shaped to broadcast over `value`."""
    dims = tuple(range(int(view.stacked), value.ndim))
    return jnp.sqrt(jnp.mean(jnp.square(value), axis=dims, keepdims=True))
