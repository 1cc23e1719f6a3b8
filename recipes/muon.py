"""Muon's direction for some parameters and another optimizer's for the rest."""

from collections.abc import Mapping
from typing import Any

import jax
import optax
from optax import contrib

from recipes import matrices


def direction(
    views: Mapping[str, matrices.View], *, beta: float, iterations: int, rms: float
) -> optax.GradientTransformationExtraArgs:
    """Returns the transformation from gradients of matrices to orthogonal updates at rate 1.

    Args:
        views: the matrices; those of a stack are orthogonalised one by one.
        beta: how much of the mean gradient is kept.
        iterations: Newton-Schulz iterations.
        rms: root mean square of the update (Liu et al. 2025, https://arxiv.org/abs/2502.16982).
    """
    # Axes that are neither reduced nor output are batch axes to optax: the layers of a stack stay apart.
    numbers = {
        path: contrib.MuonDimensionNumbers(reduction_axis=view.groups[0], output_axis=view.groups[1])
        for path, view in views.items()
    }
    inner = contrib.scale_by_muon(beta=beta, ns_steps=iterations, weight_dimension_numbers=numbers)

    def update(updates: Any, state: Any, params: Any = None, **_: Any) -> tuple[Any, Any]:
        updates, state = inner.update(updates, state, params)
        # An orthogonal [m, n] matrix has root mean square 1 / sqrt(max(m, n)).
        return {path: rms * max(views[path].sides) ** 0.5 * step for path, step in updates.items()}, state

    return optax.GradientTransformationExtraArgs(inner.init, update)  # pyright: ignore[reportArgumentType]


def split(chosen: frozenset[str], one: Any, rest: Any) -> optax.GradientTransformationExtraArgs:
    """Returns the transformation that does `one` to the `chosen` paths and `rest` to the others."""
    parts = {"chosen": one, "rest": rest}

    def share(tree: Any, name: str) -> dict[str, jax.Array]:
        return {path: leaf for path, leaf in tree.items() if (path in chosen) == (name == "chosen")}

    def init(params: Any) -> dict[str, Any]:
        return {name: part.init(share(params, name)) for name, part in parts.items()}

    def update(updates: Any, state: Any, params: Any = None, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        steps, states = {}, {}
        for name, part in parts.items():
            mine, states[name] = part.update(share(updates, name), state[name], share(params, name))
            steps |= mine
        return {path: steps[path] for path in updates}, states

    return optax.GradientTransformationExtraArgs(init, update)  # pyright: ignore[reportArgumentType]
