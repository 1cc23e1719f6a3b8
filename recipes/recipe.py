"""Stage, Handoff, Recipe: the whole idea, as values. Imports the standard library alone.

A Stage says where it starts, what it learns from, what moves and when it stops. A Handoff says how one stage's
parameters become another's. A Recipe is an ordered list of stages. Everything that changes during a run changes at a
stage boundary, so freezing and then unfreezing an encoder is two stages.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

from recipes import paths

CARRIED = ("opt_state", "clock")
MISTAKE, LOST, PREEMPTED = 2, 69, 75
"""Exit codes of the command."""


class Mistake(ValueError):
    """A user's mistake: one line that names both sides and the mend. The command ends with exit code 2."""


class Preempted(Exception):
    """The run was told to stop; it has saved, and the same command goes on from there. Exit code 75."""


class Lost(Exception):
    """Another process of the run has died; the same command goes on from the last checkpoint. Exit code 69."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Take:
    """Parameters of the target that are read from the source.

    Attributes:
      target: path pattern of the parameters to fill.
      source: template of the source path, with the groups of `target`; the default is the same path.
      by: optional change of value (recipes/transforms.py); it declares the shape that it makes.
    """

    target: str
    source: str = r"\g<0>"
    by: Callable[..., Any] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Handoff:
    r"""How the parameters of `source` become this stage's.

    Every parameter of the target must be taken or fresh, every parameter of the source read or dropped, and every
    rule must match something. What is neither is refused before anything is allocated.

    Attributes:
      source: an earlier stage of the recipe, or a directory WORKDIR/STAGE of another run.
      take: `Take`s, or pairs (target pattern, source template); the first that matches a path wins.
      fresh: patterns of target parameters that keep their initial values.
      drop: patterns of source parameters that are left behind.
      carry: also carry 'opt_state' (for parameters taken as they are) and the 'clock' (one schedule, one dropout key
        sequence and one data stream then span both stages).
    """

    source: str
    take: tuple[Any, ...] = ((r".*", r"\g<0>"),)
    fresh: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    carry: tuple[str, ...] = ()

    @property
    def takes(self) -> tuple[Take, ...]:
        """The rules of `take`, pairs turned into `Take`s."""
        return tuple(rule if isinstance(rule, Take) else Take(target=rule[0], source=rule[1]) for rule in self.take)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Save:
    """When a stage saves, and what it keeps.

    Attributes:
      steps: save every so many steps; None saves by time alone.
      minutes: also save when the last save is so many minutes old; None saves by steps alone.
      keep: how many of the newest checkpoints stay. The last one of a stage always stays.
      keep_every: checkpoints at multiples of this step stay for ever; None keeps none of them.
      keep_hours: beside those, one checkpoint stays for ever in every so many hours; None keeps none of them.
    """

    steps: int | None = 1000
    minutes: float | None = None
    keep: int = 2
    keep_every: int | None = None
    keep_hours: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Held-out data scored during a stage and at its end.

    Attributes:
      name: the name of the figures, as in `validation/loss`.
      data: what is scored; None takes the held-out `split` of what the stage learns from.
      split: that split.
      batches: how many batches, the same ones each time; None scores every example once, which needs `Examples`.
      every: score every so many steps; None scores at the end alone.
      score: optional measure beyond the loss (recipes/scores.py); it may decode.
    """

    name: str
    data: Any = None
    split: str = "validation"
    batches: int | None = 8
    every: int | None = None
    score: Any = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Best:
    """A stage ends at its best evaluated checkpoint rather than its last one.

    Attributes:
      figure: what is compared, `<evaluation>/<figure>` as in metrics.jsonl, of an evaluation that has `every`.
      lower: whether less is better, as for a loss.
      patience: the stage stops after so many evaluations in a row without a better one; None lets it run to its end.
    """

    figure: str
    lower: bool = False
    patience: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage: where it starts, what it learns from, what moves, when it stops.

    Attributes:
      name: its name in the recipe and its folder in the work directory.
      model: a model of models/ (`Encoder`, `EncoderDecoder`, `Decoder`).
      data: what it learns from (tasks/: `Blend`, `Corrupted`, `Examples`, `Streamed`).
      loss: what it minimises (recipes/losses.py).
      optimizer: how (recipes/optimizers.py).
      steps: it ends after so many updates of its own.
      batch: rows of one update, over all devices and accumulation steps.
      start: where the parameters come from; None starts from scratch.
      frozen: patterns of parameters that don't move: no gradient, no optimizer state, no decay, no share in the norm.
      accumulate: an update's rows are worked off in so many equal parts, weighted by their target tokens.
      seed: of the initial values, the dropout and the data.
      save: when it saves.
      evaluate: held-out data to score.
      best: what decides which of its checkpoints the stage ends with; None takes the last.
      log_every: steps between two lines of metrics.
      max_skipped: so many updates in a row with a loss or gradient that isn't finite stop the run.
    """

    name: str
    model: Any
    data: Any
    loss: Any
    optimizer: Any
    steps: int
    batch: int
    start: Handoff | None = None
    frozen: tuple[str, ...] = ()
    accumulate: int = 1
    seed: int = 0
    save: Save = Save()
    evaluate: tuple[Evaluate, ...] = ()
    best: Best | None = None
    log_every: int = 10
    max_skipped: int = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mesh:
    """How many devices each mesh axis has; one of them may be -1, which takes what is left.

    Attributes:
      data: copies of the parameters, each with its share of the rows.
      fsdp: parameters split over these devices, which also share the rows.
      sequence: the positions of long rows split over these devices; attention gathers keys and values.
      tensor: heads, hidden units and vocabulary split over these devices.
    """

    data: int = -1
    fsdp: int = 1
    sequence: int = 1
    tensor: int = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rules:
    """Which mesh axis splits each logical axis of a parameter; None leaves it whole.

    Every parameter is born with logical axis names, one a dimension. Two dimensions of one parameter on the same mesh
    axis, or a dimension that its mesh axis doesn't divide, are errors.
    """

    vocab: str | None = "tensor"
    embed: str | None = "fsdp"
    heads: str | None = "tensor"
    kv_heads: str | None = "tensor"
    mlp: str | None = "tensor"
    head_dim: str | None = None
    layers: str | None = None
    positions: str | None = None
    buckets: str | None = None
    types: str | None = None
    classes: str | None = None
    norm: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """An ordered list of stages.

    Attributes:
      name: the recipe's name.
      stages: in the order they run; a stage may start from any earlier one.
      mesh: the device mesh of every stage.
      rules: how parameters lie on the mesh.
      compare: (name, cheaper stages, dearer stages): what the report sets against each other, by final stages.
    """

    name: str
    stages: tuple[Stage, ...]
    mesh: Mesh = Mesh()
    rules: Rules = Rules()
    compare: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = ()

    def stage(self, name: str) -> Stage:
        """The stage of this name; raises Mistake with the nearest valid name."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        names = [stage.name for stage in self.stages]
        raise Mistake(f"recipe {self.name!r} has no stage {name!r}{paths.nearest(name, names)}")


def is_directory(source: str) -> bool:
    """Whether a handoff's source is a directory of another run rather than a stage of this recipe."""
    return "/" in source
