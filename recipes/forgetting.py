"""What a stage forgot: two trained stages beside each other, on the data and objective of the earlier one.

Three measures: the scores of old tasks (recipes/retained.py); the old objective's loss on the old corpus, the held-out
batches and rows alike; and, layer by layer, linear CKA between the states of both on the tokens of those batches
(recipes/cka.py). It is written to AFTER/eval/forgetting/BEFORE/forgetting.json, where the report finds it.
"""

import dataclasses
import itertools
import json
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from etils import epath

from models import stack
from recipes import (
    agree,
    checkpoint,
    cka,
    evaluate,
    figures,
    interval,
    mesh,
    optimizers,
    plan,
    recipe,
    retained,
    schedules,
    trained,
)
from recipes import state as states
from recipes import step as steps

FORMAT = 1
FOLDER, FILE = "eval/forgetting", "forgetting.json"
BATCHES = 8
_HEAD = ("old tasks", "before", "after", "difference", "±")
Batches = Sequence[Mapping[str, Any]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Old:
    """What both models are asked about.

    Attributes:
      of: the stage whose objective and data these are.
      data: the held-out split of its data.
      batches: how many of them, the first ones.
      rows: of a batch.
    """

    of: recipe.Stage
    data: Any
    batches: int
    rows: int

    def probe(self, side: trained.Trained) -> recipe.Stage:
        """A stage that would train a side's model on the old objective, so that what checks and compiles stages can."""
        return recipe.Stage(
            name="forgetting",
            # Kernels are for the device and the length of rows that a stage was trained with.
            model=stack.altered(side.model, attention="plain"),
            data=self.data,
            loss=self.of.loss,
            optimizer=optimizers.AdamW(schedule=schedules.Constant(peak=1.0)),
            steps=1,
            batch=self.rows,
            frozen=side.stage.frozen if side.stage is not None else (),
        )


def old(of: trained.Trained, *, batches: int, rows: int | None = None) -> Old:
    """The objective and the held-out data of a stage.

    Raises:
      recipe.Mistake: it was imported, and has none.
    """
    if of.stage is None:
        raise recipe.Mistake(
            f"{of.folder} was imported, so that its objective and its text aren't known here; "
            "name a stage that has both with --data WORKDIR/STAGE"
        )
    data = evaluate.held_out(of.stage, recipe.Evaluate(name="forgetting"))
    return Old(of=of.stage, data=data, batches=batches, rows=rows or of.stage.batch)


def check(before: trained.Trained, after: trained.Trained) -> None:
    """Raises Mistake where the ids of the two don't mean the same, or a checkpoint is damaged."""
    for side in (before, after):
        if (fault := checkpoint.damage(side.root)) is not None:
            raise recipe.Mistake(f"{side.root} is damaged: {fault}")
    one, other = before.manifest["vocabulary"], after.manifest["vocabulary"]
    if one is not None and other is not None and one != other:
        raise recipe.Mistake(
            f"{before.folder} was trained with vocabulary {one[:12]} and {after.folder} with {other[:12]}: "
            "the same text has other ids; compare stages of one vocabulary"
        )
    if before.model.vocabulary != after.model.vocabulary:
        raise recipe.Mistake(
            f"{before.folder} has {before.model.vocabulary} token ids and {after.folder} {after.model.vocabulary}; "
            "compare stages of one vocabulary"
        )


def compare(before: trained.Trained, after: trained.Trained, of: Old, tasks: Sequence[str]) -> dict[str, Any]:
    """All three measures of two stages, as `forgetting.json` has them; `tasks` names those asked for, none for all.

    Raises:
      recipe.Mistake: the data can't be read, or don't fit `before`.
    """
    fault = agree.first(lambda: next(iter(_problems(of.probe(before))), None))
    if fault:
        raise recipe.Mistake(f"{before.folder}: {fault}")
    over = mesh.build(recipe.Mesh())
    batches = list(evaluate.batches(of.data, of.batches, of.rows, over))
    layouts = [states.layout(of.probe(side), recipe.Rules(), over) for side in (before, after)]
    params = [
        checkpoint.read(side.root, layout.shapes.params) for side, layout in zip((before, after), layouts, strict=True)
    ]
    scores, unscored = retained.compare(before, after, tasks)
    found: dict[str, Any] = {
        "format": FORMAT,
        "before": _identity(before),
        "after": _identity(after),
        "scores": scores,
        "unscored": unscored,
        "data": _words(of, batches),
        "loss": [],
        "loss_reason": agree.first(lambda: next(iter(_problems(of.probe(after))), None)),
    }
    if found["loss_reason"] is None:
        each = [
            _losses(of.probe(side), layout, own, batches)
            for side, layout, own in zip((before, after), layouts, params, strict=True)
        ]
        found["loss"] = _beside(*each)
    models = [of.probe(side).model for side in (before, after)]
    return found | cka.compare(models, params, batches, over)


def _problems(probe: recipe.Stage) -> list[str]:
    """Why a stage's model can't be asked."""
    name = f"recipe 'forgetting', stage {probe.name!r}: "
    planned = plan.make(recipe.Recipe(name="forgetting", stages=(probe,)), data=True)
    return [line.removeprefix(name) for line in planned.problems]


def _identity(side: trained.Trained) -> dict[str, Any]:
    """Which checkpoint of which stage a side is."""
    names = ("recipe", "stage", "step", "params_digest")
    return {"folder": side.folder} | {name: side.manifest[name] for name in names}


def _words(of: Old, batches: Batches) -> dict[str, Any]:
    kind = type(getattr(of.data, "objective", of.data)).__name__
    where = getattr(of.data, "store", getattr(of.data, "mixture", None))
    return {
        "stage": of.of.name,
        "objective": kind,
        "source": where,
        "split": of.data.split,
        "batches": len(batches),
        "rows": of.rows,
    }


def _losses(
    probe: recipe.Stage, layout: states.Layout, params: states.Params, batches: Batches
) -> tuple[dict[str, float], list[dict[str, float]]]:
    """The figures over all batches, and those of each."""
    step = steps.compile_eval(probe, probe.data, recipe.Rules(), layout)
    parts, whole, each = probe.data.parts(), figures.Sums(probe.data.parts(), probe.loss), []
    for batch in batches:
        stats = jax.device_get(dict(step(params, mesh.put(batch, layout.mesh))))
        whole.add(stats)
        own = figures.Sums(parts, probe.loss)
        own.add(stats)
        each.append(own.means())
    return whole.means(), each


def _beside(
    before: tuple[dict[str, float], list[dict[str, float]]], after: tuple[dict[str, float], list[dict[str, float]]]
) -> list[dict[str, Any]]:
    """Each figure of both sides: over all batches, and how the difference spreads over the batches that have it."""
    found = []
    for name in before[0]:
        differences = [new[name] - old[name] for old, new in zip(before[1], after[1]) if name in old]
        several = len(differences) > 1
        found.append(
            {
                "figure": name,
                "before": before[0][name],
                "after": after[0][name],
                "difference": after[0][name] - before[0][name],
                "batches": len(differences),
                "deviation": statistics.stdev(differences) if several else None,
                "interval": interval.half(differences),
            }
        )
    return found


def write(found: Mapping[str, Any]) -> epath.Path:
    """Writes what was found beside the later stage; returns the file."""
    before = epath.Path(found["before"]["folder"])
    home = epath.Path(found["after"]["folder"]) / FOLDER / f"{before.parent.resolve().name}.{before.name}"
    home.mkdir(parents=True, exist_ok=True)
    temporary = home / f"{FILE}.tmp"
    temporary.write_text(json.dumps(found, indent=1))
    return temporary.replace(home / FILE)


def lines(found: Mapping[str, Any]) -> list[str]:
    """What was found as text: three tables, and what isn't in them and why."""
    before, after, of = (found[name] for name in ("before", "after", "data"))
    text = [f"forgetting: from {before['folder']} step {before['step']} to {after['folder']} step {after['step']}", ""]
    rows = [
        (
            f"{row['task']} {row['figure']}",
            *_numbers({**row, "before": row["before"]["mean"], "after": row["after"]["mean"]}),
            f"{row['before']['n']}, {row['after']['n']}",
        )
        for row in found["scores"]
    ]
    text += _table((*_HEAD, "seeds"), rows) if rows else ["no old task has scores of both"]
    text += [f"  {line}" for line in found["unscored"]] + [""]
    if found["loss_reason"] is None:
        text += _table(("old corpus", *_HEAD[1:]), [(row["figure"], *_numbers(row)) for row in found["loss"]])
        text.append(
            f"  {of['objective']} on {of['source']}, split {of['split']!r}: {of['batches']} batches of {of['rows']} "
            "rows; ± is half the 95 % interval over batches"
        )
    else:
        text.append(f"the old objective's loss isn't for the model after: {found['loss_reason']}")
    text.append("")
    if found["cka"]:
        most = max(len(values) for values in found["cka"].values())
        names = ["embeddings", *(f"layer {number}" for number in range(1, most))]
        columns = [[f"{value:.4f}" if value is not None else "–" for value in each] for each in found["cka"].values()]
        rows = list(itertools.zip_longest(names, *columns, fillvalue=""))
        tokens = " and ".join(f"{count:,} {side}" for side, count in found["tokens"].items())
        text += [*_table(("linear CKA", *found["cka"]), rows), f"  debiased, over {tokens} tokens"]
    return text + [f"  {line}" for line in found["notes"]]


def _numbers(row: Mapping[str, Any]) -> tuple[str, ...]:
    spread = f"{row['interval']:.4f}" if row["interval"] is not None else ""
    return f"{row['before']:.4f}", f"{row['after']:.4f}", f"{row['difference']:+.4f}", spread


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows under a head, the first column to the left and the others to the right."""
    wide = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    return [
        "  ".join([row[0].ljust(wide[0]), *(cell.rjust(size) for cell, size in zip(row[1:], wide[1:]))])
        for row in (head, *rows)
    ]
