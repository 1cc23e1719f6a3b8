"""What changes from step to step, and how it is made: abstractly first, then on the devices it will live on."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from recipes import mesh, optimizers, paths, recipe

Params = dict[str, jax.Array]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainState:
    """The state of a stage: arrays, or in a `Layout` their shapes, or their shardings.

    Attributes:
      step: this stage's updates so far, int32.
      params: path -> float32 array; the frozen ones too.
      opt_state: the optimizer's, for the trainable parameters alone.
      skipped: updates left out because the loss or a gradient wasn't finite, int32.
      streak: how many of them in a row up to now, int32.
    """

    step: Any
    params: Any
    opt_state: Any
    skipped: Any
    streak: Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """A stage's state before there is an array.

    Attributes:
      leaves: path -> shape, dtype and logical axes of each parameter.
      trainable: the paths that move.
      optimizer: the gradient transformation, over the trainable parameters alone.
      shapes: the state's shapes and dtypes, each with its sharding.
      mesh: the devices.
    """

    leaves: Mapping[str, Any]
    trainable: frozenset[str]
    optimizer: Any
    shapes: TrainState
    mesh: jax.sharding.Mesh

    @property
    def shardings(self) -> TrainState:
        """The sharding of every leaf of the state."""
        return jax.tree.map(lambda leaf: leaf.sharding, self.shapes)


def layout(stage: recipe.Stage, rules: recipe.Rules, over: jax.sharding.Mesh, clock: int = 0) -> Layout:
    """The layout of `stage` on the mesh `over`; raises Mistake for rules or patterns that don't fit.

    `clock` is the schedule position at the stage's first step, where a handoff carried it.
    """
    leaves = stage.model.abstract()
    trainable = movable(stage, leaves)
    placed = mesh.shardings(leaves, rules, over)
    shapes = {
        path: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=placed[path]) for path, leaf in leaves.items()
    }
    moving = {path: leaves[path] for path in leaves if path in trainable}
    optimizer = optimizers.make(stage.optimizer, moving, steps=stage.steps, offset=clock)
    abstract = jax.eval_shape(optimizer.init, {path: shapes[path] for path in moving})
    lies = optimizers.state_shardings(abstract, {path: placed[path] for path in moving}, moving)
    opt_state = jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), abstract, lies
    )
    scalar = jax.ShapeDtypeStruct((), jnp.int32, sharding=mesh.whole(over))
    state = TrainState(step=scalar, params=shapes, opt_state=opt_state, skipped=scalar, streak=scalar)
    return Layout(leaves=leaves, trainable=trainable, optimizer=optimizer, shapes=state, mesh=over)


def movable(stage: recipe.Stage, leaves: Iterable[str]) -> frozenset[str]:
    """The paths that train; raises Mistake for a frozen pattern that matches nothing, or when nothing is left."""
    leaves = tuple(leaves)
    try:
        frozen = paths.select(stage.frozen, leaves, f"stage {stage.name!r}: frozen")
    except ValueError as error:
        raise recipe.Mistake(str(error)) from None
    if len(frozen) == len(leaves):
        raise recipe.Mistake(f"stage {stage.name!r}: frozen = {stage.frozen} leaves no parameter to train; free some")
    return frozenset(leaves) - frozen


def initial(stage: recipe.Stage, layout: Layout, wanted: Iterable[str]) -> Params:
    """The initial values of the `wanted` parameters, made where they will live; the others are never allocated."""
    wanted = sorted(wanted)
    if not wanted:
        return {}
    placed = {path: layout.shardings.params[path] for path in wanted}

    def make(key: jax.Array) -> Params:
        values = stage.model.init(key)
        return {path: values[path] for path in wanted}

    return jax.jit(make, out_shardings=placed)(jax.random.key(stage.seed))


def begin(layout: Layout, params: Params) -> TrainState:
    """A state at step 0 around `params`, with a new optimizer."""
    moving = {path: value for path, value in params.items() if path in layout.trainable}
    opt_state = jax.jit(layout.optimizer.init, out_shardings=layout.shardings.opt_state)(moving)
    return TrainState(step=zero(layout), params=params, opt_state=opt_state, skipped=zero(layout), streak=zero(layout))


def zero(layout: Layout, value: int = 0) -> jax.Array:
    """An int32 scalar on every device of the layout."""
    return jax.make_array_from_callback((), mesh.whole(layout.mesh), lambda _: np.asarray(value, np.int32))
