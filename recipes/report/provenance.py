"""The section on where the figures come from: versions, commit, seeds, restarts, and what else the manifests hold."""

import json
from collections.abc import Mapping
from typing import Any

from recipes.report import markup


def section(data: Mapping[str, Any]) -> str:
    """A table for each run; a fact that all stages share stands once."""
    runs = data["runs"]
    tables = "".join(_table(run, run["name"] if len(runs) > 1 else "") for run in runs)
    return f"<section id=environment><h2>Environment</h2>{tables}</section>" if tables else ""


def _table(run: Mapping[str, Any], name: str) -> str:
    stages = [stage for stage in run["stages"] if stage["state"] != "not begun"]
    facts: dict[str, dict[str, str]] = {}
    for stage in stages:
        for fact, value in _facts(stage).items():
            facts.setdefault(fact, {})[stage["name"]] = value
    rows = [(markup.e(fact), _shared(values, len(stages))) for fact, values in facts.items()]
    return markup.table(("", ""), rows, caption=markup.e(name), left=2) if rows else ""


def _facts(stage: Mapping[str, Any]) -> dict[str, str]:
    """What is stored about how a stage was run, as text."""
    found: dict[str, Any] = {
        "commit": stage["commit"],
        "versions": ", ".join(f"{name} {version}" for name, version in stage["versions"].items()) or None,
        "seed": stage["seed"],
        "rows a step": stage["batch"],
        "skipped updates": stage["skipped"],
        "restarts": stage["starts"] - 1 if stage["starts"] else None,
        "model FLOPs against the devices' peak": _percent(stage["speed"].get("mfu")),
        "frozen": ", ".join(stage["frozen"]) or None,
        "vocabulary": stage["vocabulary"],
        "parameters' digest": stage["digest"],
        "recipe's hash": stage["gin_hash"],
        "model": (stage["model"] or {}).get("config"),
    }
    for key, value in stage["other"].items():
        found[key] = value if isinstance(value, str | int | float) else json.dumps(value)
    return {fact: str(value) for fact, value in found.items() if value is not None}


def _shared(values: Mapping[str, str], stages: int) -> str:
    """One value for all stages, or one a line with the stages that have it."""
    grouped: dict[str, list[str]] = {}
    for stage, value in values.items():
        grouped.setdefault(value, []).append(stage)
    if len(grouped) == 1 and len(values) == stages:
        return _short(next(iter(grouped)))
    lines = "".join(f"<div><dt>{markup.e(', '.join(of))}</dt><dd>{_short(v)}</dd></div>" for v, of in grouped.items())
    return f"<dl class=each>{lines}</dl>"


def _short(value: str, most: int = 160) -> str:
    """Long text folded."""
    if len(value) <= most:
        return markup.e(value)
    return f"<details><summary>{markup.e(value[:60])}…</summary>{markup.e(value)}</details>"


def _percent(share: float | None) -> str | None:
    return None if share is None else markup.percent(share)
