"""The training loop of one stage.

The contract:
1. The start is the stage's own checkpoint, else the handoff, else scratch; the choice is logged and in the manifest.
2. A step is: take a batch, dispatch the update, then look at the previous one. Nothing waits for the device on purpose.
3. A save after step n holds n updates. The batch is a function of (seed, step), so there is no iterator to save.
4. `state.step` counts this stage's updates. An evaluation at step n sees the parameters after n updates.
5. All processes do the same at the same step: what each wishes (to stop, or a save that is due by the clock) is known
   to all one step later, and figures that decide something are those of process 0 (recipes/agree.py). The first process
   alone writes metrics and the final `done`.
6. The stage ends with a checkpoint at exactly `steps`, or with its best one where it looks for that, then `done`; the
   next stage starts from disk.
"""

import collections
import contextlib
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import rich.console
from etils import epath

from recipes import (
    agree,
    checkpoint,
    config,
    costing,
    epochs,
    evaluate,
    journal,
    lineage,
    mesh,
    progress,
    recipe,
    selection,
    shares,
    window,
)
from recipes import start as starts
from recipes import state as states
from recipes import step as steps

DIGEST_BYTES = 1 << 30


def train(
    stage: recipe.Stage,
    resolved: config.Resolved,
    workdir: epath.Path,
    over: jax.sharding.Mesh,
    console: rich.console.Console,
    stopping: Callable[[], bool],
) -> dict[str, Any]:
    """Runs or resumes `stage` to its end and returns what its `done` file says.

    Raises:
      recipe.Preempted: `stopping()` came true; the stage has saved.
      recipe.Mistake: too many updates in a row weren't finite; the last good checkpoint is kept.
    """
    rules = resolved.value.rules
    directory = workdir / stage.name
    directory.mkdir(parents=True, exist_ok=True)
    clock = starts.clock(stage, workdir)
    layout = states.layout(stage, rules, over, clock)
    update = steps.compile_train(stage, rules, layout, clock)
    with contextlib.ExitStack() as opened:
        checkpoints = opened.enter_context(contextlib.closing(checkpoint.Checkpoints(directory, stage.save)))
        book = opened.enter_context(journal.Journal(directory, stage.name, console))
        start = starts.decide(stage, layout, checkpoints, workdir)
        state, done = start.state, int(start.state.step)
        book.resume(done)
        book.say(_opening(stage, start, layout, done))
        for line in epochs.warnings(resolved.value, stage):
            book.say(f"warning: {line}")
        feed = opened.enter_context(contextlib.closing(_feed(stage, done + clock, over)))
        tick = opened.enter_context(progress.bar(console, stage.name, stage.steps, done))
        scorer = evaluate.Scorer(stage, rules, layout)
        shown = window.Window(stage, clock, start.tokens)
        chosen = selection.Selection(stage, start.best)
        checkpoints.pinned = chosen.step
        agreed = agree.Wishes(over)
        pending: collections.deque[tuple[int, Mapping[str, Any]]] = collections.deque()
        saved_at = time.monotonic()
        while done < stage.steps and not chosen.exhausted:
            began = time.monotonic()
            batch = next(feed)
            shown.waited += time.monotonic() - began
            state, stats = update(state, mesh.put(batch, over))
            done += 1
            pending.append((done, stats))
            stop, overdue = agreed(stopping(), _overdue(stage, time.monotonic() - saved_at))
            stop = stop and done < stage.steps
            scores, saves = scorer.due(done), stop or overdue or _saves(stage, done)
            while len(pending) > (0 if saves or scores else 1):
                step, stats = pending.popleft()
                tick(step, f"loss {shown.add(step, stats):.3f}")
                if step % stage.log_every == 0 or step == stage.steps:
                    book.report(step, stage.steps, shown.close(step))
            if scores:
                for found in map(_agreed, scorer.run(state.params, done)):
                    book.report(done, stage.steps, found)
                    chosen.see(done, found)
            if saves or chosen.step == done:
                checkpoints.pinned = chosen.step
                manifest = _manifest(stage, resolved, state, start, shown.tokens, clock, chosen.record())
                checkpoints.save(done, state.params, state.opt_state, manifest)
                saved_at = time.monotonic()
                agreed.forget()
            if stop:
                checkpoints.wait()
                raise recipe.Preempted(f"stage {stage.name!r} saved step {done}; the same command goes on from there")
        checkpoints.wait()
        params, spent = state.params, _spent(stage, done, shown.tokens)
        if chosen.step is not None and chosen.step != done:
            book.say(f"the best of {done} steps is step {chosen.step}: {chosen.record()}")
            checkpoints.forget_after(chosen.step)
            params, _ = checkpoints.restore(chosen.step, layout.shapes.params, layout.shapes.opt_state)
        scores = {}
        for found in map(_agreed, scorer.run(params)):
            book.report(done, stage.steps, found)
            scores |= found
        record = agree.first(lambda: _finish(directory, spent, scores))
        book.say(f"done: {record['step']:,} steps, {spent['tokens']:,} tokens, {spent['flops']:.3g} FLOPs")
        return record


def _feed(stage: recipe.Stage, start: int, over: jax.sharding.Mesh) -> Any:
    """This process's rows of the batches `start`, `start` + 1, ..."""
    return stage.data.feed(batch=stage.batch, seed=stage.seed, start=start, **shares.own(over))


def _agreed(found: Mapping[str, float]) -> dict[str, float]:
    """The figures as process 0 has them, since what follows from them must be the same everywhere."""
    return agree.first(lambda: dict(found))


def _saves(stage: recipe.Stage, done: int) -> bool:
    """Whether a save is due after `done` updates."""
    return done == stage.steps or (stage.save.steps is not None and done % stage.save.steps == 0)


def _overdue(stage: recipe.Stage, seconds: float) -> bool:
    """Whether a save is due `seconds` after the last one."""
    return stage.save.minutes is not None and seconds > 60 * stage.save.minutes


def _manifest(
    stage: recipe.Stage,
    resolved: config.Resolved,
    state: states.TrainState,
    start: starts.Start,
    tokens: int,
    clock: int,
    best: Mapping[str, Any] | None,
) -> dict[str, Any]:
    step = int(state.step)
    small = sum(value.nbytes for value in state.params.values()) <= DIGEST_BYTES
    return lineage.manifest(
        resolved=resolved,
        stage=stage,
        step=step,
        clock=clock,
        start=start.record,
        spent=_spent(stage, step, tokens),
        skipped=int(state.skipped),
        streak=int(state.streak),
        best=best,
        digest=checkpoint.digest(state.params) if small else None,
    )


def _spent(stage: recipe.Stage, step: int, tokens: int) -> dict[str, float]:
    cost = costing.of_stage(stage)
    return {"tokens": tokens, "flops": step * cost.flops, "training_units": step * cost.training_units}


def _opening(stage: recipe.Stage, start: starts.Start, layout: states.Layout, done: int) -> str:
    total = sum(leaf.size for leaf in layout.leaves.values())
    moving = sum(layout.leaves[path].size for path in layout.trainable)
    if start.resumed:
        origin = f"goes on from its own checkpoint at step {done}"
    elif start.record["parent"]:
        origin = f"starts from {start.record['parent']['directory']} step {start.record['parent']['step']}"
    else:
        origin = "starts from scratch"
    return f"{origin}; {moving:,} of {total:,} parameters train, {stage.steps} steps of {stage.batch} rows"


def _finish(directory: epath.Path, spent: Mapping[str, float], scores: Mapping[str, float]) -> dict[str, Any]:
    """Writes `done`, the last file of a stage, from its last checkpoint's manifest and what all its steps cost."""
    manifest = checkpoint.manifest(directory)
    record = {name: manifest[name] for name in ("recipe", "stage", "step", "params_digest")}
    record |= {"spent": dict(spent), "scores": dict(scores)}
    temporary = directory / "done.tmp"
    temporary.write_text(json.dumps(record, indent=1))
    temporary.replace(directory / "done")
    return record
