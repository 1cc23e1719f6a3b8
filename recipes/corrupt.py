"""`baton corrupt`: a stage's text, corrupted by its frozen auxiliary as the stage itself would, written into a store.

What update u of the stage would have drawn is drawn here: by the same key, at the temperature of u. So an encoder that
reads the store from its first row, batch by batch, learns what the stage's main encoder would have learnt.
"""

import contextlib
import dataclasses
import hashlib
import json
from typing import Any

import numpy as np
import rich.console
from etils import epath

from models import pair
from recipes import config, mesh, metro, plan, progress, recipe
from recipes import start as starts
from recipes import state as states
from recipes import step as steps
from tasks import blend, corrupted_rows, corrupted_store

AUXILIARY = r"auxiliary/.*"
CHUNK = 1 << 20
"""Tokens, about, that a kill may lose."""


def corrupt(
    resolved: config.Resolved,
    name: str,
    out: str,
    *,
    workdir: str | None = None,
    split: str = "train",
    batches: int | None = None,
    overwrite: bool = False,
    console: rich.console.Console | None = None,
    chunk: int = CHUNK,
) -> dict[str, Any]:
    """Writes the corrupted text of a stage, or goes on with it, and returns what the store says of itself.

    Args:
      resolved: the recipe.
      name: of the stage, a `Pair` with a frozen auxiliary.
      out: the store to be.
      workdir: of the run that has the stage's source, where that is a stage of the recipe.
      split: 'train' writes the batches of all updates; a held-out share those of the stage's evaluations of it.
      batches: how many; None writes as many as the stage has updates, for 'train' alone.
      overwrite: replaces what `out` has of another corruption of this split.
      console: where lines of progress go.
      chunk: tokens that are written at a time.

    Raises:
      recipe.Mistake, ValueError: the stage, its source or `out` don't serve; nothing has been written.
    """
    of: recipe.Recipe = resolved.value
    stage = of.stage(name)
    for problem in _problems(stage, workdir, split, batches):
        raise recipe.Mistake(f"recipe {of.name!r}, stage {name!r}: {problem}")
    earlier = of.stages[: of.stages.index(stage) + 1]
    for problem in plan.make(dataclasses.replace(of, stages=earlier, compare=()), data=True).problems:
        raise recipe.Mistake(problem)
    folder, over = epath.Path(workdir or "."), mesh.build(of.mesh)
    clock = starts.clock(stage, folder)
    layout = states.layout(stage, of.rules, over, clock)
    params, source = starts.some(stage, layout, folder, AUXILIARY)
    _same_vocabulary(stage, source)
    held = split != "train"
    data = dataclasses.replace(stage.data, split=split)
    total = batches or stage.steps
    about = _about(of, stage, data, source, clock=clock, total=total)
    if corrupted_store.check(out, split, about, vocabulary=data.store, overwrite=overwrite):
        return about
    console = console or rich.console.Console()
    writer = corrupted_store.Writer(out, split, vocabulary=data.store, about=about)
    each = max(1, chunk // (stage.batch * data.inputs))
    draw = steps.compile_corrupt(stage, of.rules, layout, params, held=held)
    first, pad = min(writer.done * each, total), data.specials().pad
    seed, begin = (0, 0) if held else (stage.seed, clock)
    with (
        contextlib.closing(data.feed(batch=stage.batch, seed=seed, start=first + begin)) as feed,
        progress.bar(console, f"corrupt {split}", total, first) as tick,
    ):
        if first:
            console.print(f"corrupt: goes on behind {first:,} of {total:,} batches", highlight=False)
        for low in range(first, total, each):
            drawn = []
            for number in range(low, min(low + each, total)):
                batch = next(feed)
                drawn.append((batch, draw((params, np.int32(number + begin)), mesh.put(batch, over))))
                tick(number + 1, "")
            rows = [corrupted_rows.Rows.of(batch, read=np.asarray(read), pad=pad) for batch, read in drawn]
            writer.put(corrupted_rows.Rows.join(rows))
    writer.close()
    return about


def _problems(stage: recipe.Stage, workdir: str | None, split: str, batches: int | None) -> list[str]:
    """Why this stage's text can't be corrupted beforehand."""
    if not isinstance(stage.model, pair.Pair) or not isinstance(stage.loss, metro.Metro):
        return [
            f"`baton corrupt` needs a Pair under the loss Metro and this stage has {type(stage.model).__name__} under "
            f"{type(stage.loss).__name__}; name another --stage"
        ]
    if stage.model.kind != "encoder" or not isinstance(stage.data, blend.Blend):
        return [
            f"`baton corrupt` writes an encoder's rows of a token store, and this stage has a model of kind "
            f"{stage.model.kind!r} on {type(stage.data).__name__}; name a stage with an encoder and a Blend"
        ]
    if stage.loss.mlm is not None:
        return [
            f"the auxiliary trains (mlm = {stage.loss.mlm}), so that what it replaces depends on the step; freeze "
            f"r{AUXILIARY!r} and set mlm = None"
        ]
    if stage.start is None:
        return ["the stage starts from scratch, with an auxiliary that has learnt nothing; give it a handoff"]
    if not recipe.is_directory(stage.start.source) and workdir is None:
        return [f"the auxiliary is of stage {stage.start.source!r}; give the --workdir where that one has run"]
    if split != "train" and batches is None:
        return [f"split {split!r} is what evaluations read; give their number of batches with --batches"]
    return []


def _same_vocabulary(stage: recipe.Stage, source: Any) -> None:
    wanted, found = source["vocabulary"], stage.data.fingerprint()
    if wanted is not None and wanted != found:
        raise recipe.Mistake(
            f"stage {stage.name!r} reads {stage.data.store}, of the vocabulary {found[:12]}, and its auxiliary was "
            f"trained with {wanted[:12]}; give the store that stage {source['stage']!r} was trained on"
        )


def _about(
    of: recipe.Recipe, stage: recipe.Stage, data: blend.Blend, source: Any, *, clock: int, total: int
) -> dict[str, Any]:
    """What the store will say of itself; its digest is of all that decides the rows, wherever the files lie."""
    decides = {
        "auxiliary": source["params_digest"] or f"{source['recipe']} {source['stage']} {source['step']}",
        "model": repr((stage.model.models["auxiliary"], stage.model.sharing)),
        "temperature": repr(stage.loss.temperature),
        "data": repr(dataclasses.replace(data, store="", max_epochs=None)),
        "text": {part.name: part.manifest.digest for part in data.open()},
        "seed": stage.seed,
        "clock": clock,
        "batch": stage.batch,
        "accumulate": stage.accumulate,
        "batches": total,
    }
    spec = data.spec(stage.batch)
    return {
        "description": f"recipe {of.name!r}, stage {stage.name!r}, by stage {source['stage']!r} step {source['step']}",
        "digest": hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest(),
        "command": corrupted_store.COMMAND,
        "inputs": spec["encoder_inputs"][0][1],
        "targets": spec["targets"][0][1],
        "rows": total * stage.batch,
        "parts": list(data.parts()),
        "decides": decides,
    }
