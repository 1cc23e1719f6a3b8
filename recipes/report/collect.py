"""Everything that a report shows, as one JSON-able value: `baton report --json` prints it, the page embeds it."""

import time
from collections.abc import Sequence
from typing import Any

from recipes.report import bindings, costs, differences, folders, results
from recipes.report import stage as stages

FORMAT = 1


def collect(found: Sequence[folders.Folder], now: float | None = None) -> dict[str, Any]:
    """Reads the work directories; a stage that is damaged, cut off or running is told as such.

    Args:
      found: the work directories.
      now: the time of the report, seconds since 1970.

    Returns:
      `format`, `made` (UTC), `runs`, `results` (recipes/report/results.py), `groups` of them, and `bindings`: the
      recipes aligned (recipes/report/differences.py).
    """
    now = time.time() if now is None else now
    runs = [_run(folder, now) for folder in found]
    scores = results.collect(runs)
    return {
        "format": FORMAT,
        "made": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now)),
        "runs": [{key: value for key, value in run.items() if key != "gin"} for run in runs],
        "results": scores,
        "groups": results.groups(scores),
        "bindings": differences.aligned({run["name"]: run["gin"]["text"] for run in runs}),
    }


def _run(folder: folders.Folder, now: float) -> dict[str, Any]:
    file = folder.path / "recipe.gin"
    text = file.read_bytes().decode(errors="replace") if file.exists() else ""
    gin = bindings.Bindings(text)
    scopes: dict[str, str | None] = dict(gin.stages())
    scopes |= {name: None for name in folders.stages(folder.path) if name not in scopes}
    found = [stages.read(folder.path / name, name, gin, scope, now) for name, scope in scopes.items()]
    notes = [] if file.exists() else ["there is no recipe.gin: a run writes one, a conversion doesn't"]
    return {
        "name": folder.name,
        "directory": str(folder.path),
        "recipe": gin.value("recipe.Recipe.name"),
        "state": _state([stage["state"] for stage in found]),
        "stages": found,
        "comparisons": costs.comparisons(gin, found),
        "total": costs.of_run(found),
        "gin": {"text": text},
        "notes": notes,
    }


def _state(states: Sequence[str]) -> str:
    """Of a run, by its stages': running if one is, done if all are, else stopped (or not begun)."""
    if "running" in states:
        return "running"
    if all(state == "done" for state in states) and states:
        return "done"
    return "not begun" if all(state == "not begun" for state in states) else "stopped"
