"""Scores as one flat list, and their means over repeated seeds with a 95 % interval.

A result is {model, task, metric, language, seed, value}: a stage's last evaluations, `<task>/<metric>` or
`<task>/<metric>/<language>`, and what `baton eval` measured of it. The model is the stage, the seed its own. Stages
named `<model>.seed_<number>` are repeats of one model; so are runs whose recipes differ in seeds and paths alone.
"""

import math
import re
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from recipes import interval
from recipes.report import bindings

KEYS = ("model", "task", "metric", "language", "seed", "value")
_PATHS = ("store", "STORE")


def collect(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every result of the runs; where several differ in more than seeds, a model's name begins with its run's."""
    groups = repeats({run["name"]: run["gin"]["text"] for run in runs})
    found: list[dict[str, Any]] = []
    for group in groups:
        own = [(run, stage) for run in runs if run["name"] in group for stage in run["stages"]]
        prefix = f"{', '.join(group)}: " if len(groups) > 1 else ""
        for run, stage in own:
            seeds = [other["seed"] for _, other in own if other["name"] == stage["name"]]
            seed = stage["seed"] if len(group) == 1 or len(set(seeds)) == len(seeds) else run["name"]
            found += [{**result, "model": prefix + result["model"]} for result in _of_stage(stage, seed)]
    return found


def repeats(texts: Mapping[str, str]) -> list[list[str]]:
    """Names of runs by recipe: together stand those whose resolved texts differ, and in seeds and stores alone."""
    groups: dict[Any, list[str]] = {}
    seen: dict[Any, set[str]] = {}
    for name, text in texts.items():
        found = bindings.Bindings(text)
        seeds = {key for key in found if key.split(".")[-1] == "seed"}
        macros = {found[key][1:] for key in seeds if found[key].startswith("%")}
        rest = frozenset((k, v) for k, v in found.items() if k not in seeds | macros and k.split(".")[-1] not in _PATHS)
        key: Any = rest if len(found) and text not in seen.get(rest, ()) else name
        groups.setdefault(key, []).append(name)
        seen.setdefault(rest, set()).add(text)
    return list(groups.values())


def groups(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The results of one model, task, metric and language together: `values`, `seeds`, `n`, `mean`, `half`.

    `half` is half the 95 % interval, Student's t over the seeds; None with fewer than two.
    """
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for result in results:
        group = found.setdefault(
            tuple(result[key] for key in KEYS[:4]),
            {**{key: result[key] for key in KEYS[:4]}, "seeds": [], "values": []},
        )
        if result["seed"] not in group["seeds"]:
            group["seeds"].append(result["seed"])
            group["values"].append(result["value"])
    for group in found.values():
        values = group["values"]
        group["n"], group["mean"] = len(values), statistics.fmean(values)
        group["half"] = interval.half(values)
    return list(found.values())


def _of_stage(stage: Mapping[str, Any], seed: Any) -> list[dict[str, Any]]:
    named = re.fullmatch(r"(.+)\.seed_(\d+)", stage["name"])
    model, seed = (named[1], int(named[2])) if named else (stage["name"], seed)
    scores = [(*name.partition("/")[::2], seed, value) for name, value in stage["final"].items()]
    scores += [(each["task"], name, seed, value) for each in stage["evals"] for seed, name, value in each["scores"]]
    found = []
    for task, figure, of, value in scores:
        metric, _, language = figure.partition("/")
        if metric and isinstance(value, int | float) and math.isfinite(value):
            found.append(dict(zip(KEYS, (model, task, metric, language or None, of, float(value)))))
    return found
