"""How alike the layers of two stacks are: linear CKA between their states on the same tokens.

Kornblith et al. 2019 (arXiv:1905.00414): with centred states X [n, D] and Y [n, E] of n tokens,

    CKA(X, Y) = HSIC(X, Y) / sqrt(HSIC(X, X) HSIC(Y, Y)),     HSIC(X, Y) = ||X^T Y||_F^2 up to a factor.

It doesn't change when either side is turned or scaled as a whole. The estimator of HSIC here is the unbiased one (Song
et al. 2012, JMLR 13:1393), so that unrelated states give 0 in the mean; the plain one above would give them about
width / n. Written for linear kernels and centred states, with x_i and y_i the rows, it needs no [n, n] matrix:

    ||X^T Y||_F^2 - n / (n - 2) sum_i |x_i|^2 |y_i|^2 + sum_i |x_i|^2 sum_i |y_i|^2 / ((n - 1) (n - 2))

up to the factor 1 / (n (n - 3)), which CKA cancels. All of it are sums over tokens: batches add up.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from recipes import mesh

Sums = dict[str, jax.Array]


def compare(
    models: Sequence[Any], params: Sequence[Any], batches: Sequence[Mapping[str, np.ndarray]], over: jax.sharding.Mesh
) -> dict[str, Any]:
    """CKA of the layers of two models on the tokens of some batches, padding left out.

    Returns:
      `cka`: for "encoder" and "decoder", as far as both models read that side of these batches, a value for the
      embeddings and for each layer, before the final norm; `tokens` of each side; `notes` on what isn't compared.
    """
    layers = [_layers(model, own, batches[0]) for model, own in zip(models, params, strict=True)]
    sides = [side for side in ("encoder", "decoder") if all(side in found for found in layers)]
    last = {side: min(found[side] for found in layers) for side in sides}
    if not last:
        words = [" and ".join(found) or "nothing" for found in layers]
        note = f"no layers to compare: of these batches the model before reads {words[0]} and the one after {words[1]}"
        return {"cka": {}, "tokens": {}, "notes": [note]}
    notes = [
        f"{side}: {layers[0][side]} layers before and {layers[1][side]} after; 1 to {least} are compared by number"
        for side, least in last.items()
        if layers[0][side] != layers[1][side]
    ]

    def read(params: Any, batch: Any) -> list[dict[str, jax.Array]]:
        both = [model.states(own, batch) for model, own in zip(models, params)]
        return [{side: made[side][: least + 1] for side, least in last.items()} for made in both]

    @functools.partial(jax.jit, out_shardings=mesh.whole(over))
    def first(params: Any, batch: Any) -> Any:
        return [{side: totals(own[side], _real(batch, side)) for side in last} for own in read(params, batch)]

    @functools.partial(jax.jit, out_shardings=mesh.whole(over))
    def second(params: Any, means: Any, batch: Any) -> Any:
        one, other = read(params, batch)
        return {side: products(one[side], other[side], means[side], _real(batch, side)) for side in last}

    sums = _over(batches, over, lambda batch: first(params, batch))
    means = {side: [own[side]["sum"] / own[side]["count"] for own in sums] for side in last}
    made = jax.device_get(_over(batches, over, lambda batch: second(params, means, batch)))
    counts = {side: float(sums[0][side]["count"]) for side in last}
    found = {side: values(made[side], counts[side]) for side in last}
    return {"cka": found, "tokens": {side: int(count) for side, count in counts.items()}, "notes": notes}


def totals(states: jax.Array, real: jax.Array) -> Sums:
    """`count` of the tokens of a batch and `sum` [K, D] of their states [K, B, L, D]; real [B, L] is 0 for padding."""
    real = real.astype(jnp.float32)
    total = jnp.einsum("kbld,bl->kd", states.astype(jnp.float32), real, precision=jax.lax.Precision.HIGHEST)
    return {"count": real.sum(), "sum": total}


def products(x: jax.Array, y: jax.Array, means: Sequence[jax.Array], real: jax.Array) -> Sums:
    """What `values` needs of a batch: sums over its tokens of products of states [K, B, L, D] and [K, B, L, E].

    `means` [K, D] and [K, E] are those over the tokens of all batches.
    """
    x, y = (_centred(states, mean, real) for states, mean in zip((x, y), means))
    squares = {"x": jnp.sum(x * x, axis=-1), "y": jnp.sum(y * y, axis=-1)}
    found: Sums = {f"squares/{name}": square.sum(axis=-1) for name, square in squares.items()}
    for name, (one, other) in {"xx": (x, x), "yy": (y, y), "xy": (x, y)}.items():
        found[name] = jnp.einsum("knd,kne->kde", one, other, precision=jax.lax.Precision.HIGHEST)
        found[f"rows/{name}"] = jnp.sum(squares[name[0]] * squares[name[1]], axis=-1)
    return found


def values(sums: Mapping[str, np.ndarray], count: float) -> list[float | None]:
    """CKA of each of the K layers; None where a side's states don't differ enough to tell."""
    sums = {name: np.asarray(value, np.float64) for name, value in sums.items()}
    one, other, both = (_hsic(sums, name, count) for name in ("xx", "yy", "xy"))
    return [float(xy / np.sqrt(xx * yy)) if min(xx, yy) > 0 else None for xx, yy, xy in zip(one, other, both)]


def _centred(states: jax.Array, mean: jax.Array, real: jax.Array) -> jax.Array:
    """[K, B, L, D] -> [K, B L, D] without the mean, padding at 0."""
    centred = (states.astype(jnp.float32) - mean[:, None, None]) * real.astype(jnp.float32)[None, :, :, None]
    return centred.reshape(len(states), -1, states.shape[-1])


def _hsic(sums: Mapping[str, np.ndarray], name: str, count: float) -> np.ndarray:
    """[K], up to a factor."""
    squares = sums[f"squares/{name[0]}"] * sums[f"squares/{name[1]}"]
    return (
        np.sum(sums[name] ** 2, axis=(1, 2))
        - count / (count - 2) * sums[f"rows/{name}"]
        + squares / ((count - 1) * (count - 2))
    )


def _layers(model: Any, params: Any, batch: Mapping[str, Any]) -> dict[str, int]:
    """The sides of a batch that a model reads, and the layers that read them."""
    return {side: leaf.shape[0] - 1 for side, leaf in jax.eval_shape(model.states, params, dict(batch)).items()}


def _real(batch: Mapping[str, jax.Array], side: str) -> jax.Array:
    return batch[f"{side}_segments"] > 0


def _over(batches: Sequence[Mapping[str, np.ndarray]], over: jax.sharding.Mesh, of: Callable[[Any], Any]) -> Any:
    """The sum of what `of` makes of each batch, leaf by leaf."""
    made = (of(mesh.put(batch, over)) for batch in batches)
    return functools.reduce(lambda one, other: jax.tree.map(jnp.add, one, other), made)
