"""Downstream tasks, as stages: a handoff takes the body of a trained stage, the head is new.

A `Task` says what is learnt and scored and how; `stages` turns it into ordinary stages that start from a checkpoint,
one for each learning rate and seed. What they cost, how they resume and what they leave behind is a stage's business.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from models import encdec, encoder, heads, pair, stack
from recipes import losses, paths, recipe, scores, trained

_LOSSES = {"tokens": losses.Classes(), "sequence": losses.Classes(), "span": losses.Spans()}
BODY = r"(token_embedder|encoder)/.*"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """One downstream task: learnt in one language, say, and scored in all.

    Attributes:
      name: names its folder and its figures.
      train: examples to learn from (`tasks.examples.Examples`); its split 'validation' decides on rate and step.
      test: examples to score at the end, each part (language) by itself.
      figure: of the score, what decides, as 'f1' or 'accuracy'; more is better.
      optimizer: with a schedule that has a `peak`, which each of `rates` replaces.
      rates: learning rates to try, each with the first seed; the best on validation goes on with the other seeds.
      seeds: how many runs are averaged.
      steps: updates of a run.
      batch: rows of an update.
      every: validate every so many steps.
      patience: a run stops after so many validations in a row without a better one; None lets it go on.
      score: what is measured; None takes span F1 for BIO tags, the accuracy for other classes.
      dropout: on the states that a new head reads.
      pool, pooler: of a head for sentences, see `models.heads.SequenceClassification`.
    """

    name: str
    train: Any
    test: Any
    figure: str
    optimizer: Any
    rates: tuple[float, ...]
    steps: int
    batch: int = 32
    seeds: int = 3
    every: int = 100
    patience: int | None = None
    score: Any = None
    dropout: float = 0.1
    pool: str = "mean"
    pooler: str = "tanh"

    def __post_init__(self):
        """Refuses a task without rates or seeds."""
        if not self.rates or self.seeds < 1:
            raise ValueError(
                f"Task {self.name!r}: rates {self.rates} and seeds {self.seeds}: give at least one of each"
            )


def stages(task: Task, start: trained.Trained, runs: Sequence[tuple[float, int]]) -> tuple[recipe.Stage, ...]:
    """One stage for each (learning rate, seed), named `rate_<rate>.seed_<seed>`.

    Raises:
      recipe.Mistake: the source has no part that the task needs, or another vocabulary.
    """
    _same_vocabulary(task, start)
    model, handoff = _model(task, start)
    score = task.score or _score(task)
    dev = recipe.Evaluate(name="dev", batches=None, every=task.every, score=score)
    test = recipe.Evaluate(name="test", data=task.test, batches=None, score=score)
    return tuple(
        recipe.Stage(
            name=f"rate_{rate:g}.seed_{seed}",
            model=model,
            data=task.train,
            loss=_LOSSES.get(task.train.form, losses.LanguageModel()),
            optimizer=dataclasses.replace(
                task.optimizer, schedule=dataclasses.replace(task.optimizer.schedule, peak=rate)
            ),
            steps=task.steps,
            batch=task.batch,
            start=handoff,
            seed=seed,
            save=recipe.Save(steps=None, minutes=10, keep=1),
            evaluate=(dev, test),
            best=recipe.Best(figure=f"dev/{task.figure}", patience=task.patience),
            log_every=task.every,
        )
        for rate, seed in runs
    )


def _classified(task: Task) -> bool:
    return task.train.form in _LOSSES


def _model(task: Task, start: trained.Trained) -> tuple[Any, recipe.Handoff]:
    """The model that a task trains, and the handoff from the source's parameters."""
    # Examples are short and of any length, so what the source was trained with needn't serve them.
    whole = stack.altered(start.model, attention="plain")
    side = "main/" if isinstance(whole, pair.Pair) else ""
    if isinstance(whole, pair.Pair):
        whole = whole.models["main"]
    if not _classified(task):
        if whole.kind != task.train.kind:
            raise recipe.Mistake(
                f"task {task.name!r} writes text with a model of kind {task.train.kind!r}, and {start.folder} holds "
                f"one of kind {whole.kind!r}; choose a stage that holds one"
            )
        if isinstance(whole, encdec.EncoderDecoder):
            whole = dataclasses.replace(whole, head=None)
        return whole, _taken(start, side, rf"(?!{heads.ReplacedToken.name}/).*")
    if isinstance(whole, encdec.EncoderDecoder):
        body = whole.encoder
    elif isinstance(whole, encoder.Encoder):
        body = whole.stack
    else:
        raise recipe.Mistake(
            f"task {task.name!r} needs an encoder, and {start.folder} holds a model of kind {whole.kind!r}"
        )
    span = task.train.form == "span"
    classes = 2 if span else len(task.train.tasks.classes(task.train.mixture))
    if span or task.train.form == "tokens":
        head = heads.TokenClassification(classes=classes, dropout=task.dropout)
    else:
        head = heads.SequenceClassification(classes=classes, dropout=task.dropout, pool=task.pool, pooler=task.pooler)
    model = encoder.Encoder(stack=body, head=head, vocabulary=whole.vocabulary, dtype=whole.dtype)
    return model, _taken(start, side, BODY, fresh=(f"{head.name}/.*",))


def _taken(start: trained.Trained, side: str, what: str, fresh: tuple[str, ...] = ()) -> recipe.Handoff:
    """Takes the parameters that match `what` from under `side` of the source, and drops its others if it has any."""
    rest = rf"(?!{side}{what}$).*"
    other = any(paths.matches(rest, path) for path in start.paths)
    return recipe.Handoff(
        source=start.folder, take=((what, rf"{side}\g<0>"),), fresh=fresh, drop=(rest,) if other else ()
    )


def _score(task: Task) -> Any:
    if not _classified(task):
        raise recipe.Mistake(f"task {task.name!r} writes text: bind its score, as scores.ExactMatch")
    if task.train.form == "span":
        return scores.Passages()
    names = task.train.tasks.classes(task.train.mixture)
    return scores.SpanF1(tags=names) if any(name.startswith("B-") for name in names) else scores.Accuracy()


def _same_vocabulary(task: Task, start: trained.Trained) -> None:
    wanted, found = start.manifest["vocabulary"], task.train.fingerprint()
    if wanted is not None and found is not None and wanted != found:
        raise recipe.Mistake(
            f"task {task.name!r} is spelt with vocabulary {found[:12]} and {start.folder} was trained with "
            f"{wanted[:12]}; give the vocabulary of its token store"
        )
