"""The scores of old tasks before and after a stage, from what `baton eval` and the stages' evaluations left on disk."""

import json
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import rich.console
from etils import epath

from recipes import downstream, evaluate, interval, run, trained

Scores = Mapping[tuple[str, str], Sequence[float]]


def compare(before: trained.Trained, after: trained.Trained, tasks: Sequence[str]) -> tuple[list[Any], list[str]]:
    """Each figure that both have, with its difference, and a line for each that one of them lacks.

    Args:
      before: the earlier stage.
      after: the later one.
      tasks: names of downstream tasks; empty takes all that one of them was scored on.

    Returns:
      Rows of `task`, `figure`, `before` and `after` (n, mean, values), `difference` of the means and, where both have
      several seeds, `interval`, half of its 95 % interval; and what is to be said.
    """
    found, notes = _downstream(before, after, tasks)
    own, more = _evaluations(before, after)
    return found + own, notes + more


def fill(before: trained.Trained, after: trained.Trained, tasks: Sequence[Any], console: rich.console.Console) -> None:
    """Fine-tunes and scores both stages on the tasks that they have no scores of."""
    for side in (before, after):
        for task in tasks:
            if not (epath.Path(side.folder) / "eval" / task.name / downstream.SCORES).exists():
                downstream.evaluate(side.folder, task, console)


def read(side: trained.Trained, task: str) -> tuple[Scores | None, str | None]:
    """The values of each figure of a downstream task over seeds; or None and why this checkpoint has none."""
    file = epath.Path(side.folder) / "eval" / task / downstream.SCORES
    again = f"run `baton eval {side.folder} {task}`"
    if not file.exists():
        return None, f"task {task}: {side.folder} has no scores; {again}"
    said = json.loads(file.read_text())
    if any(said["source"][name] != side.manifest[name] for name in ("step", "params_digest")):
        where = f"step {said['source']['step']}, and it is at step {side.manifest['step']}"
        return None, f"task {task}: {file.parent} is of another checkpoint, {where}; remove it and {again}"
    parts = {(task, f"{said['figure']}/{part}"): each["values"] for part, each in said["parts"].items()}
    return {(task, said["figure"]): said["test"]["values"], **parts}, None


def _downstream(
    before: trained.Trained, after: trained.Trained, tasks: Sequence[str]
) -> tuple[list[dict[str, Any]], list[str]]:
    scored = {
        file.parent.name for side in (before, after) for file in epath.Path(side.folder).glob("eval/*/scores.json")
    }
    rows, notes = [], []
    for task in tasks or sorted(scored):
        one, other = read(before, task), read(after, task)
        notes += [said for _, said in (one, other) if said is not None]
        if one[0] is not None and other[0] is not None:
            rows += _rows(one[0], other[0])
    return rows, notes


def _evaluations(before: trained.Trained, after: trained.Trained) -> tuple[list[dict[str, Any]], list[str]]:
    """The last figures of the evaluations that both stages have, of the same data by the same measure."""
    if before.stage is None or after.stage is None:
        return [], []
    sides = [(side, side.stage, run.done(epath.Path(side.folder))) for side in (before, after)]
    rows, notes = [], []
    for each in before.stage.evaluate:
        others = [other for other in after.stage.evaluate if other.name == each.name]
        asked = [_asked(stage, own) for (_, stage, _), own in zip(sides, (each, *others))]
        if len(asked) < 2:
            continue
        if asked[0] != asked[1]:
            notes.append(f"evaluation {each.name}: the two stages score other data, or by another measure; left out")
            continue
        missing = [side.folder for side, _, done in sides if done is None]
        if missing:
            notes.append(f"evaluation {each.name}: {' and '.join(missing)} isn't done, so that it has no last figures")
            continue
        values = [
            {
                (each.name, name.removeprefix(f"{each.name}/")): [value]
                for name, value in done["scores"].items()
                if name.startswith(f"{each.name}/")
            }
            for _, _, done in sides
            if done is not None
        ]
        rows += _rows(*values)
    return rows, notes


def _asked(stage: Any, each: Any) -> tuple[Any, ...]:
    """What decides an evaluation's figures beside the model."""
    rows = None if each.batches is None else stage.batch
    return evaluate.held_out(stage, each), each.batches, rows, each.score, stage.loss


def _rows(before: Scores, after: Scores) -> list[dict[str, Any]]:
    return [
        {
            "task": task,
            "figure": figure,
            "before": _summary(values),
            "after": _summary(after[task, figure]),
            "difference": statistics.fmean(after[task, figure]) - statistics.fmean(values),
            "interval": interval.half_of_difference(values, after[task, figure]),
        }
        for (task, figure), values in before.items()
        if (task, figure) in after
    ]


def _summary(values: Sequence[float]) -> dict[str, Any]:
    return {"n": len(values), "mean": statistics.fmean(values), "values": list(values)}
