"""What stages cost, in model FLOPs, tokens and training units, alone and along a lineage.

Model FLOPs are counted from the shapes: two for each multiply-add of a matmul or of attention; rematerialisation, norms
and the optimizer are not counted. `models` gives the forward pass part by part, in execution order; the backward pass
of a part costs

    forward × (trainable share of the part)        the gradients of its weights
  + forward × (1 if it, or any part before it, trains)    the gradient passed through it

so that a part that trains costs three forwards in all, a frozen one after a trainable one two, and a frozen one with
nothing trainable before it one. The share is by parameters, for a part of which some are frozen. What stands before a
part that no gradient leaves (models.costs.Cost.apart) doesn't count as before it.

One training unit is 100 000 updates of 12 layers of width 1024 at 2048 × 512 tokens (Soltan et al. 2023,
https://arxiv.org/abs/2306.08756). An update of a stage costs

    sum over parts of layers × half × (matmul parameters of a layer / reference)
    × tokens / (2048 × 512) / (12 × 100 000)

where `half` is 1/2 if the whole part is frozen and 1 otherwise, the reference is an encoder layer of width 1024 and MLP
width 4096 (4 × 1024² + 2 × 1024 × 4096), a decoder layer counts as one layer (its cross-attention is left out of its
matmul parameters), and tokens are rows times the length of the encoder's inputs (a decoder-only model's own).
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from recipes import paths

_UNIT_UPDATES = 100_000
_UNIT_LAYERS = 12
_UNIT_TOKENS = 2048 * 512
_UNIT_LAYER = 4 * 1024**2 + 2 * 1024 * 4096


class Part(Protocol):
    """What a model tells of one part of its forward pass (models/costs.py)."""

    @property
    def name(self) -> str:
        """For messages."""
        ...

    @property
    def prefix(self) -> str:
        """Pattern of the paths of the parameters it uses."""
        ...

    @property
    def forward_flops(self) -> float:
        """Of one batch."""
        ...

    @property
    def layers(self) -> int:
        """How many layers it is; 0 for embeddings and heads."""
        ...

    @property
    def layer_matmul_params(self) -> float:
        """Of one layer, without cross-attention."""
        ...

    @property
    def apart(self) -> bool:
        """Whether no gradient passes from it to the parts before it."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageCost:
    """What one update costs.

    Attributes:
      forward: FLOPs of the forward pass.
      backward: FLOPs of the backward pass.
      tokens: positions of the encoder's inputs (of a decoder-only model's own), padding included.
      training_units: see the head of this file.
    """

    forward: float
    backward: float
    tokens: int
    training_units: float

    @property
    def flops(self) -> float:
        """Of the whole update."""
        return self.forward + self.backward


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spent:
    """What a stage, or a lineage of stages, has cost.

    Attributes:
      key: names the stage beyond doubt (recipe and stage, or the checkpoint's digest); joined keys for a sum.
      tokens, flops, training_units: totals.
    """

    key: str
    tokens: float
    flops: float
    training_units: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Saved:
    """Shares of the compute that one way leaves unspent against another; negative where it costs more."""

    tokens: float
    flops: float
    training_units: float


def stage_cost(
    costs: Iterable[Part], frozen: Sequence[str], params: Mapping[str, Any], rows: int, inputs: int
) -> StageCost:
    """Returns what one update of a stage costs.

    Args:
      costs: the model's parts in execution order, for a batch of `rows`.
      frozen: patterns of the parameters that don't move.
      params: every parameter, by path, as the model's `abstract()` has them.
      rows: rows of one update.
      inputs: length of the encoder's inputs, or of a decoder-only model's.

    Raises:
      ValueError: a part names parameters that the model doesn't have.
    """
    forward = backward = units = 0.0
    upstream = False
    for cost in costs:
        share = _trainable_share(cost, frozen, params)
        upstream = (upstream and not cost.apart) or share > 0
        forward += cost.forward_flops
        backward += cost.forward_flops * (share + (1.0 if upstream else 0.0))
        units += cost.layers * cost.layer_matmul_params / _UNIT_LAYER * (1.0 if share > 0 else 0.5)
    tokens = rows * inputs
    return StageCost(
        forward=forward,
        backward=backward,
        tokens=tokens,
        training_units=units * (tokens / _UNIT_TOKENS) / (_UNIT_LAYERS * _UNIT_UPDATES),
    )


def spent(key: str, cost: StageCost, steps: int) -> Spent:
    """Returns what `steps` updates at `cost` come to; `key` names the stage."""
    return Spent(
        key=key, tokens=steps * cost.tokens, flops=steps * cost.flops, training_units=steps * cost.training_units
    )


def total(stages: Iterable[Spent]) -> Spent:
    """Returns the sum over stages; one that several lineages share, by its key, counts once.

    Raises:
      ValueError: two stages have one key and different costs.
    """
    once: dict[str, Spent] = {}
    for stage in stages:
        if once.setdefault(stage.key, stage) != stage:
            raise ValueError(
                f"stage {stage.key!r} comes twice, with {once[stage.key].flops:.4g} and {stage.flops:.4g} FLOPs; "
                "give different stages different keys"
            )
    kept = once.values()
    return Spent(
        key=" + ".join(once),
        tokens=math.fsum(stage.tokens for stage in kept),
        flops=math.fsum(stage.flops for stage in kept),
        training_units=math.fsum(stage.training_units for stage in kept),
    )


def saved(cheap: Spent, dear: Spent) -> Saved:
    """Returns the shares that `cheap` leaves unspent against `dear`: 0.27 for 27 % cheaper."""

    def share(ours: float, theirs: float) -> float:
        return 1.0 - ours / theirs if theirs else 0.0

    return Saved(
        tokens=share(cheap.tokens, dear.tokens),
        flops=share(cheap.flops, dear.flops),
        training_units=share(cheap.training_units, dear.training_units),
    )


def _trainable_share(cost: Part, frozen: Sequence[str], params: Mapping[str, Any]) -> float:
    """Returns the share of the part's parameters that move."""
    sizes = {path: math.prod(leaf.shape) for path, leaf in params.items() if paths.matches(cost.prefix, path)}
    if not sizes:
        raise ValueError(
            f"part {cost.name!r} uses parameters {cost.prefix!r} and the model has none such"
            f"{paths.nearest(cost.prefix, params)}"
        )
    moving = sum(size for path, size in sizes.items() if not any(paths.matches(pattern, path) for pattern in frozen))
    return moving / sum(sizes.values())
