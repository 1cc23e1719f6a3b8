"""Held-out data scored during a stage and at its end: the stage's own loss, and what an Evaluate asks for."""

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from recipes import agree, figures, mesh, recipe, scores, shares
from recipes import state as states
from recipes import step as steps


class Scorer:
    """The evaluations of one stage; each compiles once, at its first use."""

    def __init__(self, stage: recipe.Stage, rules: recipe.Rules, layout: states.Layout):
        """Nothing is read or compiled yet."""
        self._stage, self._rules, self._layout = stage, rules, layout
        self._steps: dict[str, Any] = {}
        self._seen: dict[str, tuple[int, dict[str, float]]] = {}

    def due(self, step: int) -> bool:
        """Whether an evaluation is wanted after `step` updates; at the last one only a choice of the best needs it."""
        wanted = step < self._stage.steps or self._stage.best is not None
        return wanted and any(self._is_due(each, step) for each in self._stage.evaluate)

    def run(self, params: states.Params, step: int | None = None) -> Iterator[dict[str, float]]:
        """The figures of every evaluation due after `step` updates, or at the stage's end (None) of all of them."""
        for each in self._stage.evaluate:
            if step is None or self._is_due(each, step):
                yield {f"{each.name}/{name}": value for name, value in self._score(each, params).items()}

    def _is_due(self, each: recipe.Evaluate, step: int) -> bool:
        """Whether `every` says so."""
        last = self._stage.best is not None and step == self._stage.steps
        return bool(each.every) and (step % (each.every or 1) == 0 or last)

    def _score(self, each: recipe.Evaluate, params: states.Params) -> dict[str, float]:
        data = held_out(self._stage, each)
        if each.name not in self._steps:
            self._steps[each.name] = steps.compile_eval(self._stage, data, self._rules, self._layout)
        step = self._steps[each.name]
        total = figures.Sums(data.parts(), self._stage.loss)
        for batch in batches(data, each.batches, self._stage.batch, self._layout.mesh):
            total.add(jax.device_get(dict(step(params, mesh.put(batch, self._layout.mesh)))))
        found = total.means()
        if each.score is not None:
            rows, score = batches(data, each.batches, self._stage.batch, self._layout.mesh), each.score
            answers = score.answers(self._stage.model, params, data, rows, self._layout.mesh)
            found |= agree.first(lambda: by_part(score, answers, data.parts()))
        return found


def by_part(score: Any, answers: Sequence[scores.Answer], parts: Sequence[str]) -> dict[str, float]:
    """The figures of a score: where there are several parts each part's own, and their plain mean without a name."""
    if len(parts) == 1:
        return score.measure(answers)
    each = {part: [answer for answer in answers if answer.part == index] for index, part in enumerate(parts)}
    found = {part: score.measure(own) for part, own in each.items() if own}
    names = dict.fromkeys(name for figures in found.values() for name in figures)
    means = {name: float(np.mean([figures[name] for figures in found.values()])) for name in names}
    return means | {f"{name}/{part}": value for part, figures in found.items() for name, value in figures.items()}


def held_out(stage: recipe.Stage, each: recipe.Evaluate) -> Any:
    """The data that an evaluation of `stage` scores."""
    return dataclasses.replace(stage.data, split=each.split) if each.data is None else each.data


def batches(data: Any, count: int | None, rows: int, over: jax.sharding.Mesh) -> Iterator[Mapping[str, np.ndarray]]:
    """This process's rows of `count` batches of `data`, the same ones at every call, or of one pass over all of it."""
    here = shares.own(over)
    if count is None:
        yield from data.once(rows, **here)
        return
    with contextlib.closing(data.feed(batch=rows, seed=0, start=0, **here)) as feed:
        yield from itertools.islice(feed, count)
