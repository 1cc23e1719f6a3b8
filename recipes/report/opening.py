"""The head of the page: what ran, how far it got, what it cost, and what calls for attention."""

from collections.abc import Mapping, Sequence
from typing import Any

from recipes.report import markup


def section(data: Mapping[str, Any]) -> str:
    """Title, tiles for one run or a table for several, the comparisons in words, notes."""
    runs = data["runs"]
    lines = "".join(_headline(run, each, len(runs) > 1) for run in runs for each in run["comparisons"])
    facts = _tiles(runs[0]) if len(runs) == 1 else _table(runs)
    notes = [f"{_where(run, runs)}{line}" for run in runs for line in run["notes"]]
    notes += [
        f"{_where(run, runs)}stage {stage['name']}: {line}"
        for run in runs
        for stage in run["stages"]
        for line in stage["notes"]
    ]
    return (
        f"<header><p class=kind>baton report</p><h1>{markup.e(title(data))}</h1>"
        f"<p class=made>{_directories(runs)}made {markup.e(data['made'])}</p></header>"
        f"<section id=summary aria-label=Summary>{facts}{lines}{markup.notes(notes)}</section>"
    )


def title(data: Mapping[str, Any]) -> str:
    """The recipe of the runs, or their names where they have several."""
    recipes = list(dict.fromkeys(str(run["recipe"] or run["name"]) for run in data["runs"]))
    names = [run["name"] for run in data["runs"]]
    return recipes[0] if len(recipes) == 1 else ", ".join(names)


def _directories(runs: Sequence[Mapping[str, Any]]) -> str:
    return "" if len(runs) > 1 else f"<code>{markup.e(runs[0]['directory'])}</code> · "


def _tiles(run: Mapping[str, Any]) -> str:
    cost, stages = run["total"]["all"], run["stages"]
    done = sum(stage["state"] == "done" for stage in stages)
    seconds = sum(stage["speed"].get("seconds", 0) for stage in stages)
    sizes = [stage["parameters"]["total"] for stage in stages if stage["parameters"]]
    tiles = [(f"{done} of {len(stages)}", "stages done", run["state"] if run["state"] != "done" else "")]
    if cost["flops"]:
        inherited = run["total"]["inherited"]
        more = f"{markup.power(inherited['flops'])} of them by earlier models" if inherited["flops"] else ""
        tiles.append((markup.powered(cost["flops"]), "model FLOPs", more))
        tiles.append((markup.powered(cost["training_units"]), "training units", ""))
        tiles.append((markup.counted(cost["tokens"]), "tokens", ""))
    if sizes:
        tiles.append((markup.counted(max(sizes)), "parameters, the largest model", ""))
    if seconds:
        tiles.append((markup.seconds(seconds), "between first and last lines", ""))
    return "<div class=tiles>" + "".join(_tile(*tile) for tile in tiles) + "</div>"


def _tile(value: str, name: str, more: str) -> str:
    small = f"<small>{markup.e(more)}</small>" if more else ""
    return f"<div><b>{value}</b><span>{name}</span>{small}</div>"


def _table(runs: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for run in runs:
        done = sum(stage["state"] == "done" for stage in run["stages"])
        cost = run["total"]["all"]
        rows.append(
            (
                markup.e(run["name"]),
                markup.e(run["recipe"] or "–"),
                f"<code>{markup.e(run['directory'])}</code>",
                markup.e(run["state"]),
                f"{done} of {len(run['stages'])}",
                markup.counted(cost["tokens"]),
                markup.powered(cost["flops"]),
                markup.powered(cost["training_units"]),
            )
        )
    head = ("run", "recipe", "directory", "state", "stages done", "tokens", "FLOPs", "training units")
    return markup.table(head, rows, left=4)


def _headline(run: Mapping[str, Any], each: Mapping[str, Any], several: bool) -> str:
    name = markup.e(f"{run['name']}: {each['name']}" if several else each["name"])
    if each["saved"] is None:
        return f"<p class=headline>{name}: not yet comparable, {markup.e(', '.join(each['open']))} isn't done.</p>"
    said = ", ".join(
        f"<b>{markup.saving(each['saved'][measure])}</b> {words}"
        for measure, words in (("training_units", "in training units"), ("flops", "in FLOPs"))
    )
    sides = " against ".join(markup.power(each[side]["training_units"]) for side in ("cheap", "dear"))
    return f"<p class=headline>{name}: {said} ({sides} training units).</p>"


def _where(run: Mapping[str, Any], runs: Sequence[Mapping[str, Any]]) -> str:
    return f"{run['name']}, " if len(runs) > 1 else ""
