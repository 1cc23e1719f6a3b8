"""One update, as a pure function that reads like the algorithm, and its compilation."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from models import placing
from recipes import mesh, recipe
from recipes import state as states

Batch = dict[str, jax.Array]
Stats = dict[str, jax.Array]


def train_step(
    state: states.TrainState,
    batch: Batch,
    *,
    stage: recipe.Stage,
    optimizer: Any,
    trainable: frozenset[str],
    clock: int,
) -> tuple[states.TrainState, Stats]:
    """One update of the trainable parameters; returns the new state and the step's figures.

    The frozen parameters are constants of the loss, so XLA drops their backward pass. An update whose loss or gradient
    norm isn't finite leaves parameters and optimizer as they were, and is counted.
    """
    moving = {path: value for path, value in state.params.items() if path in trainable}
    fixed = {path: value for path, value in state.params.items() if path not in trainable}
    counts = stage.loss.counts(batch)
    batch, key = _of_update(stage, batch, state.step + clock)

    def objective(moving: states.Params, rows: Batch, key: jax.Array) -> tuple[jax.Array, Stats]:
        sums = stage.loss(stage.model, moving | fixed, rows, key)
        terms = [weight * sums[term] / counts[term] for term, weight in stage.loss.terms.items()]
        return sum(terms, jnp.zeros(())), sums

    (loss, sums), grads = _accumulate(jax.value_and_grad(objective, has_aux=True), moving, batch, key, stage.accumulate)
    norm = optax.global_norm(grads)
    updates, opt_state = optimizer.update(grads, state.opt_state, moving, step=state.step)
    finite = jnp.isfinite(loss) & jnp.isfinite(norm)
    moved = optax.apply_updates(moving, updates)
    keep = functools.partial(jax.tree.map, lambda new, old: jnp.where(finite, new, old))
    skipped = jnp.where(finite, 0, 1).astype(jnp.int32)
    new = states.TrainState(
        step=state.step + 1,
        params=keep(moved, moving) | fixed,
        opt_state=keep(opt_state, state.opt_state),
        skipped=state.skipped + skipped,
        streak=(state.streak + 1) * skipped,
    )
    stats = {"grad_norm": norm, "objective": loss, "skipped": new.skipped, "streak": new.streak}
    return new, stats | _figures(sums, counts, batch, len(stage.data.parts()))


def _of_update(stage: recipe.Stage, batch: Batch, number: jax.Array) -> tuple[Batch, jax.Array]:
    """The batch of update `number`, and that update's key.

    Each row knows its update: a loss may have a schedule, and rows are what accumulation divides.
    """
    key = jax.random.fold_in(jax.random.key(stage.seed), number)
    return {**batch, "step": jnp.full(len(batch["part"]), number)}, key


def _figures(sums: Stats, counts: Stats, batch: Batch, parts: int) -> Stats:
    """The figures of one batch: sums, counts, tokens that aren't padding, loss and weight of each blend part."""
    segments = [value for name, value in batch.items() if name.endswith("_segments")]
    figures = {name: value for name, value in sums.items() if not name.startswith("row/")}
    figures |= {f"count/{name}": count for name, count in counts.items()}
    figures["tokens"] = sum((jnp.sum(value > 0, dtype=jnp.int32) for value in segments), jnp.zeros((), jnp.int32))
    for name in ("row/loss", "row/weight"):
        figures[name.replace("row", "part")] = jax.ops.segment_sum(sums[name], batch["part"], parts)
    return figures


def _accumulate(grad: Callable[..., Any], moving: Any, batch: Batch, key: jax.Array, parts: int) -> Any:
    """Value and gradient of `grad` summed over `parts` equal parts of the rows; figures of rows are joined again."""
    if parts == 1:
        return grad(moving, batch, key)
    split = _apart(batch, parts)

    def part(total: Any, item: tuple[jax.Array, Batch]) -> tuple[Any, Stats]:
        (loss, sums), grads = grad(moving, item[1], jax.random.fold_in(key, item[0]))
        return jax.tree.map(jnp.add, total, (loss, grads)), sums

    zeros = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, moving))
    (loss, grads), sums = jax.lax.scan(part, zeros, (jnp.arange(parts), split))
    joined = {name: _joined(value) if name.startswith("row/") else value.sum(axis=0) for name, value in sums.items()}
    return (loss, joined), grads


def _apart(batch: Batch, parts: int) -> Batch:
    """[B, ...] as [parts, B / parts, ...]: part p has the rows p, p + parts, ..., so that each device has its share."""
    return {name: value.reshape(-1, parts, *value.shape[1:]).swapaxes(0, 1) for name, value in batch.items()}


def _joined(value: jax.Array) -> jax.Array:
    """Inverse of `_apart`, of one array."""
    return value.swapaxes(0, 1).reshape(-1, *value.shape[2:])


def compile_train(
    stage: recipe.Stage, rules: recipe.Rules, layout: states.Layout, clock: int = 0
) -> Callable[[states.TrainState, Batch], tuple[states.TrainState, Stats]]:
    """`train_step` of a stage, jitted with explicit shardings; the state it is given is donated."""
    step = _bound(stage, layout, clock)
    out = (layout.shardings, mesh.whole(layout.mesh))
    return _placed(_jit(step, layout, out=out, donate=(0,), state=layout.shardings), rules, layout)


def lower_train(stage: recipe.Stage, rules: recipe.Rules, layout: states.Layout, batch: Mapping[str, Any]) -> Any:
    """The same program lowered for the shapes of the state and of `batch`, for compilation and its figures alone."""
    jitted = _jit(_bound(stage, layout, 0), layout, out=(layout.shardings, None), donate=(0,), state=layout.shardings)
    return _placed(jitted.lower, rules, layout)(layout.shapes, dict(batch))


def compile_eval(
    stage: recipe.Stage, data: Any, rules: recipe.Rules, layout: states.Layout
) -> Callable[[states.Params, Batch], Stats]:
    """The figures of the stage's loss on a batch of `data`, without dropout, jitted."""

    def step(params: states.Params, batch: Batch) -> Stats:
        sums = stage.loss(stage.model, params, batch, None)
        return _figures(sums, stage.loss.counts(batch), batch, len(data.parts()))

    return _placed(
        _jit(step, layout, out=mesh.whole(layout.mesh), donate=(), state=layout.shardings.params), rules, layout
    )


def compile_corrupt(
    stage: recipe.Stage, rules: recipe.Rules, layout: states.Layout, params: states.Params, *, held: bool
) -> Callable[[tuple[states.Params, Any], Batch], jax.Array]:
    """From (the auxiliary's parameters, the number of an update) and its batch to what the main encoder reads [B, L].

    The draws are those of the stage's own update, or with `held` those of an evaluation.
    """

    def step(state: tuple[states.Params, jax.Array], batch: Batch) -> jax.Array:
        own, number = state
        if held:
            return stage.loss.corrupt(stage.model, own, batch, None)
        batch, key = _of_update(stage, batch, number)
        if stage.accumulate == 1:
            return stage.loss.corrupt(stage.model, own, batch, key)

        def part(item: tuple[jax.Array, Batch]) -> jax.Array:
            return stage.loss.corrupt(stage.model, own, item[1], jax.random.fold_in(key, item[0]))

        return _joined(jax.lax.map(part, (jnp.arange(stage.accumulate), _apart(batch, stage.accumulate))))

    lies = {path: layout.shardings.params[path] for path in params}, mesh.whole(layout.mesh)
    return _placed(_jit(step, layout, out=mesh.whole(layout.mesh), donate=(), state=lies), rules, layout)


def _bound(stage: recipe.Stage, layout: states.Layout, clock: int) -> Callable[..., Any]:
    return functools.partial(
        train_step, stage=stage, optimizer=layout.optimizer, trainable=layout.trainable, clock=clock
    )


def _jit(step: Any, layout: states.Layout, *, out: Any, donate: tuple[int, ...], state: Any) -> Any:
    return jax.jit(step, in_shardings=(state, mesh.rows(layout.mesh)), out_shardings=out, donate_argnums=donate)


def _placed(call: Callable[..., Any], rules: recipe.Rules, layout: states.Layout) -> Callable[..., Any]:
    """`call` with the activations' rules in force, whenever it may trace."""
    names = mesh.activation_rules(rules)

    def placed(state: Any, batch: Batch) -> Any:
        with placing.rules(layout.mesh, names):
            return call(state, batch)

    return placed
