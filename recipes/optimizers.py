"""What moves the parameters: AdamW, Adafactor, Lion, Muon, each a description that `make` turns into a transformation.

Only trainable parameters reach an optimizer, so clipping, decay and moments never see a frozen one. Master weights and
moments are float32, whatever the model computes in.

The position on the schedule is not kept in the optimizer's state: `update` takes `step=`, the stage's count of updates,
so that the rate applied, the rate reported and the horizon can't drift apart, whichever updates are skipped.

Layers are stored stacked. Elementwise optimizers don't mind; Adafactor's means and Muon's orthogonalisation would mix
the layers, so both see each layer by itself (recipes/matrices.py).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import optax
from jax.sharding import NamedSharding, PartitionSpec

from recipes import adafactor, matrices, muon, paths, schedules

# Norms, biases and tables of positions are not pulled towards zero; embeddings and kernels are.
NO_DECAY = (r".*/bias", r".*norm/.*", r".*(position_embedder|relative_bias)/.*")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimizer:
    """What every optimizer has. Use one of the classes below.

    Attributes:
      schedule: the learning rate.
      clip: largest global gradient norm over the trainable parameters; None never clips.
      decay: weight decay, multiplied by the rate (Loshchilov & Hutter 2019, https://arxiv.org/abs/1711.05101).
      no_decay: patterns of parameters without decay.
    """

    schedule: schedules.Schedule
    clip: float | None = 1.0
    decay: float = 0.0
    no_decay: tuple[str, ...] = NO_DECAY

    def __post_init__(self):
        """Refuses a clip that stops everything, a decay that grows weights, and patterns that are none."""
        if self.clip is not None and not self.clip > 0:
            raise ValueError(f"{self._name} has clip {self.clip}; give a norm above 0, or None to never clip")
        if self.decay < 0:
            raise ValueError(f"{self._name} has decay {self.decay}; it may not be below 0")
        for pattern in self.no_decay:
            paths.check(pattern, f"{self._name}.no_decay")

    @property
    def _name(self) -> str:
        return type(self).__name__

    def rate(self, steps: int, *, offset: int = 0) -> schedules.Schedule:
        """Returns the schedule as a stage of `steps` updates follows it, `offset` earlier updates carried."""
        return self.schedule.shift(offset).resolve(steps)

    def decays(self, path: str) -> bool:
        """Whether the parameter at `path` is pulled towards zero."""
        return self.decay > 0 and not any(paths.matches(pattern, path) for pattern in self.no_decay)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdamW(Optimizer):
    """Adam (Kingma & Ba 2015, https://arxiv.org/abs/1412.6980) with decoupled decay.

    Attributes:
      b1: how much of the mean of the gradients is kept at each update.
      b2: the same for the mean of their squares.
      eps: added to the root of the mean square.
    """

    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8

    def __post_init__(self):
        """Refuses averages that never move or never forget."""
        super().__post_init__()
        _check_averages(self._name, b1=self.b1, b2=self.b2)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adafactor(Optimizer):
    """Adafactor (Shazeer & Stern 2018, https://arxiv.org/abs/1804.04235), each layer of a stack by itself.

    Attention kernels count as the matrices they are (heads and head size as one dimension).

    Attributes:
      decay_rate: the mean square of update t keeps 1 - t**-decay_rate of what it was.
      factor_from: matrices whose smaller side is at least this keep row and column means instead of every entry.
      threshold: root mean square that a parameter's (a layer's) update may have; None lets it be.
      relative: the rate is multiplied by the parameter's (the layer's) root mean square, at least 1e-3.
      momentum: how much of the mean update is kept; None keeps no mean and no memory for it.
      eps: added to the squared gradient.
    """

    clip: float | None = None
    decay_rate: float = 0.8
    factor_from: int = 128
    threshold: float | None = 1.0
    relative: bool = True
    momentum: float | None = None
    eps: float = 1e-30

    def __post_init__(self):
        """Refuses averages that never move or never forget."""
        super().__post_init__()
        _check_averages(self._name, decay_rate=self.decay_rate, momentum=self.momentum or 0.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lion(Optimizer):
    """Lion (Chen et al. 2023, https://arxiv.org/abs/2302.06675): the sign of a mean.

    It wants a third to a tenth of Adam's rate.

    Attributes:
      b1: share of the kept mean in the direction that is taken.
      b2: how much of the mean of the gradients is kept at each update.
    """

    b1: float = 0.9
    b2: float = 0.99

    def __post_init__(self):
        """Refuses averages that never move or never forget."""
        super().__post_init__()
        _check_averages(self._name, b1=self.b1, b2=self.b2)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Muon(Optimizer):
    """Muon (Jordan 2024, https://kellerjordan.github.io/posts/muon) for the matrices of the layers, AdamW for the rest.

    The mean gradient of each matrix, layer by layer, is orthogonalised by Newton-Schulz iteration and scaled as in
    Liu et al. 2025 (https://arxiv.org/abs/2502.16982), so that AdamW's rate and decay serve both.

    Attributes:
      matrices: patterns of the parameters that Muon moves, where they are matrices.
      beta: how much of the mean of the gradients is kept at each update.
      iterations: Newton-Schulz iterations.
      rms: root mean square of an update at rate 1; 0.2 is AdamW's, about.
      b1, b2, eps: AdamW's, for the rest.
    """

    matrices: tuple[str, ...] = (r"(encoder|decoder)/layers/.*/kernel",)
    beta: float = 0.95
    iterations: int = 5
    rms: float = 0.2
    b1: float = 0.9
    b2: float = 0.95
    eps: float = 1e-8

    def __post_init__(self):
        """Refuses averages that never move or never forget, and patterns that are none."""
        super().__post_init__()
        _check_averages(self._name, beta=self.beta, b1=self.b1, b2=self.b2)
        if self.iterations < 1:
            raise ValueError(f"Muon has {self.iterations} iterations; give at least 1 (5 is usual)")
        for pattern in self.matrices:
            paths.check(pattern, "Muon.matrices")

    def orthogonalises(self, path: str) -> bool:
        """Whether Muon rather than AdamW moves the parameter at `path`, if it is a matrix."""
        return any(paths.matches(pattern, path) for pattern in self.matrices)


def _check_averages(name: str, **shares: float) -> None:
    for field, share in shares.items():
        if not 0 <= share < 1:
            raise ValueError(f"{name} has {field} {share}; it is a share kept, from 0 to below 1")


def make(
    optimizer: Optimizer, shapes: Mapping[str, matrices.Shape], steps: int, *, offset: int = 0
) -> optax.GradientTransformationExtraArgs:
    """Returns the transformation of a stage: `update(grads, state, params, step=...)`, all of them flat dicts by path.

    Args:
      optimizer: what to make.
      shapes: the trainable parameters, as the model's `abstract()` has them.
      steps: updates of the stage, for schedules that end with it.
      offset: updates of earlier stages, when their schedule goes on here.

    Raises:
      ValueError: nothing trains.
    """
    if not shapes:
        raise ValueError(f"{type(optimizer).__name__} has nothing to move: every parameter is frozen; free some")
    parts: list[Any] = [] if optimizer.clip is None else [optax.clip_by_global_norm(optimizer.clip)]
    parts.append(_relaxed(_direction(optimizer, {path: matrices.view(shape) for path, shape in shapes.items()})))
    if optimizer.decay:
        mask = {path: optimizer.decays(path) for path in shapes}
        parts.append(optax.add_decayed_weights(optimizer.decay, mask=mask))
    parts.append(_follow(optimizer.rate(steps, offset=offset)))
    return optax.with_extra_args_support(optax.chain(*parts))


def state_shardings(state: Any, shardings: Mapping[str, NamedSharding], shapes: Mapping[str, matrices.Shape]) -> Any:
    """Returns a sharding for every leaf of an optimizer state: a moment lies as its parameter does.

    Args:
      state: the abstract state, `jax.eval_shape(transformation.init, params)`.
      shardings: of the trainable parameters, by path, all on one mesh.
      shapes: of the same parameters, as `make` got them.

    Returns:
      a tree like `state`; Adafactor's means keep the mesh axes of the side they keep, counts are on every device.
    """
    mesh = next(iter(shardings.values())).mesh

    def place(keys: Sequence[Any], leaf: Any) -> NamedSharding:
        names = [getattr(key, "key", getattr(key, "name", None)) for key in keys]
        path = next((name for name in names if name in shardings), None)
        if path is None:
            return NamedSharding(mesh, PartitionSpec())
        if tuple(leaf.shape) == tuple(shapes[path].shape):
            return shardings[path]
        side = 0 if "row" in names else 1
        return NamedSharding(mesh, matrices.view(shapes[path]).side_spec(side, shardings[path].spec))

    return jax.tree_util.tree_map_with_path(place, state)


def _direction(optimizer: Optimizer, views: Mapping[str, matrices.View]) -> Any:
    """Returns the transformation that turns gradients into a direction, before decay and rate."""
    match optimizer:
        case AdamW(b1=b1, b2=b2, eps=eps):
            return optax.scale_by_adam(b1=b1, b2=b2, eps=eps)
        case Lion(b1=b1, b2=b2):
            return optax.scale_by_lion(b1=b1, b2=b2)
        case Adafactor():
            names = ("decay_rate", "factor_from", "threshold", "relative", "momentum", "eps")
            return adafactor.direction(views, **{name: getattr(optimizer, name) for name in names})
        case Muon(beta=beta, iterations=iterations, rms=rms):
            chosen = {path: view for path, view in views.items() if optimizer.orthogonalises(path) and view.matrix}
            one = muon.direction(chosen, beta=beta, iterations=iterations, rms=rms)
            rest = optax.scale_by_adam(b1=optimizer.b1, b2=optimizer.b2, eps=optimizer.eps)
            return muon.split(frozenset(chosen), one, rest)
    raise TypeError(f"{type(optimizer).__name__} is no optimizer: use AdamW, Adafactor, Lion or Muon")


def _relaxed(transformation: Any) -> Any:
    """Returns the transformation for use under strict promotion: optax raises floats to int32 powers as it counts."""

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        with jax.numpy_dtype_promotion("standard"):
            return optax.with_extra_args_support(transformation).update(updates, state, params, **extra)

    return optax.GradientTransformationExtraArgs(transformation.init, update)


def _follow(schedule: schedules.Schedule) -> Any:
    """Returns the last link: minus the rate at `step`, times the direction."""

    def update(updates: Any, state: Any, params: Any = None, *, step: Any, **_: Any) -> tuple[Any, Any]:
        del params
        rate = -schedule(step)
        return jax.tree.map(lambda update: rate * update, updates), state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)  # pyright: ignore
