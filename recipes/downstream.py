"""`baton eval`: fine-tunes a trained stage on downstream tasks, and scores every language.

In WORKDIR/STAGE/eval/TASK: `grid/` (a run whose stages are the learning rates, with the first seed), `seeds/` (the
other seeds at the best rate) and, written last, `scores.json`.
"""

import json
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import rich.console
from etils import epath

from recipes import agree, config, finetune, interval, recipe, run, spell, trained

SCORES = "scores.json"


def evaluate(folder: str, task: finetune.Task, console: rich.console.Console) -> dict[str, Any]:
    """Fine-tunes and scores the stage in `folder`, or resumes; returns what `scores.json` says.

    Raises:
      recipe.Mistake: nothing to start from, a task that doesn't fit, or an evaluation begun with other settings.
      recipe.Preempted: told to stop; the same command goes on.
    """
    start = trained.read(folder)
    home = epath.Path(folder) / "eval" / task.name
    grid = _run(task, start, home / "grid", [(rate, 0) for rate in task.rates], console)
    tried = {rate: done["scores"][f"dev/{task.figure}"] for (rate, _), done in grid.items()}
    best = max(task.rates, key=lambda rate: tried[rate])
    runs = {(best, 0): grid[best, 0]}
    if task.seeds > 1:
        runs |= _run(task, start, home / "seeds", [(best, seed) for seed in range(1, task.seeds)], console)
    results = [
        {"seed": seed, "step": done["step"], "scores": {name: done["scores"][name] for name in sorted(done["scores"])}}
        for (_, seed), done in runs.items()
    ]
    found = {
        "task": task.name,
        "figure": task.figure,
        "source": {
            "folder": folder,
            "recipe": start.manifest["recipe"],
            "stage": start.manifest["stage"],
            "step": start.manifest["step"],
            "params_digest": start.manifest["params_digest"],
        },
        "rates": {f"{rate:g}": value for rate, value in tried.items()},
        "rate": best,
        "runs": results,
        "test": summary([each["scores"][f"test/{task.figure}"] for each in results]),
        "parts": {
            part: summary([each["scores"][f"test/{task.figure}/{part}"] for each in results])
            for part in _parts(results[0]["scores"], f"test/{task.figure}/")
        },
    }
    agree.first(lambda: _write(home, found))
    return found


def _write(home: epath.Path, found: Mapping[str, Any]) -> None:
    temporary = home / f"{SCORES}.tmp"
    temporary.write_text(json.dumps(found, indent=1))
    temporary.replace(home / SCORES)


def _run(
    task: finetune.Task,
    start: trained.Trained,
    workdir: epath.Path,
    runs: Sequence[tuple[float, int]],
    console: rich.console.Console,
) -> dict[tuple[float, int], dict[str, Any]]:
    """The `done` record of each (rate, seed)."""
    stages = finetune.stages(task, start, runs)
    text = spell.spell(recipe.Recipe(name=f"eval_{task.name}", stages=stages))
    finished = run.run(config.parse(text, f"task {task.name!r}"), str(workdir), console=console)
    return {each: finished[stage.name] for each, stage in zip(runs, stages)}


def _parts(scores: Mapping[str, float], prefix: str) -> list[str]:
    return [name.removeprefix(prefix) for name in scores if name.startswith(prefix)]


def summary(values: Sequence[float]) -> dict[str, Any]:
    """Mean of repeated runs and, of several, their deviation and the half-width of the 95 % interval (Student's t)."""
    found: dict[str, Any] = {"n": len(values), "mean": statistics.fmean(values), "values": list(values)}
    if len(values) > 1:
        found |= {"deviation": statistics.stdev(values), "interval": interval.half(values)}
    return found


def lines(found: Mapping[str, Any]) -> list[str]:
    """The scores as text."""

    def say(name: str, values: Mapping[str, Any]) -> str:
        spread = f" ± {values['interval']:.4f}" if "interval" in values else ""
        return f"  {name}: {values['mean']:.4f}{spread} (n = {values['n']})"

    tried = ", ".join(f"{rate}: {value:.4f}" for rate, value in found["rates"].items())
    head = f"{found['task']}, {found['figure']}, from {found['source']['folder']} step {found['source']['step']}"
    return [head, f"  rates on validation: {tried}", say("test", found["test"])] + [
        say(part, values) for part, values in found["parts"].items()
    ]
