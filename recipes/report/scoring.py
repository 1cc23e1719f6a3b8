"""The section on scores: the last figure of every evaluation, and means over repeated seeds."""

from collections.abc import Mapping, Sequence
from typing import Any

from recipes.report import markup

_ALL = "all"
Group = Mapping[str, Any]


def section(data: Mapping[str, Any]) -> str:
    """A table for each task, or for each of its metrics where there are several languages."""
    tasks: dict[str, list[Group]] = {}
    for group in data["groups"]:
        tasks.setdefault(group["task"], []).append(group)
    tables = "".join(_task(task, found) for task, found in tasks.items())
    if not tables:
        return ""
    repeated = any(group["n"] > 1 for group in data["groups"])
    said = (
        "Means over seeds ± half the 95 % interval (Student's t); n is the number of seeds."
        if repeated
        else "The last figure of each stage; one seed each, so no interval."
    )
    rates = "".join(
        _rate(run, stage, each) for run in data["runs"] for stage in run["stages"] for each in stage["evals"]
    )
    chosen = f"<ul class=said>{rates}</ul>" if rates else ""
    return (
        f"<section id=scores><h2>Scores</h2><p class=said>{said}</p><div class=tables>{tables}</div>{chosen}</section>"
    )


def _rate(run: Mapping[str, Any], stage: Mapping[str, Any], each: Mapping[str, Any]) -> str:
    """Which learning rate an evaluation chose, and by what."""
    tried = ", ".join(f"{rate}: {value:.4f}" for rate, value in each["rates"].items())
    where = f"{each['task']}, {run['name']}/{stage['name']} step {each['step']:,}"
    return f"<li>{markup.e(where)}: learning rate {each['rate']:g} by {markup.e(each['figure'])} ({tried})</li>"


def _task(task: str, found: Sequence[Group]) -> str:
    parted = {group["metric"] for group in found if group["language"] is not None}
    plain = [group for group in found if group["metric"] not in parted]
    tables = [_table(f"{task}", plain, "metric")] if plain else []
    for metric in sorted(parted):
        own = [group for group in found if group["metric"] == metric]
        tables.append(_table(f"{task}: {metric}", own, "language"))
    return "".join(tables)


def _table(name: str, found: Sequence[Group], across: str) -> str:
    """Models down, metrics or languages across."""
    columns = list(dict.fromkeys(group[across] or _ALL for group in found))
    models = list(dict.fromkeys(group["model"] for group in found))
    cells = {(group["model"], group[across] or _ALL): group for group in found}
    counts = {model: max(group["n"] for group in found if group["model"] == model) for model in models}
    several = max(counts.values()) > 1
    rows = [
        (
            markup.e(model),
            *((str(counts[model]),) if several else ()),
            *(_cell(cells.get((model, column)), counts[model]) for column in columns),
        )
        for model in models
    ]
    head = ("stage", *(("n",) if several else ()), *(markup.e(column) for column in columns))
    return markup.table(head, rows, caption=markup.e(name))


def _cell(group: Group | None, usual: int) -> str:
    if group is None:
        return markup.NOTHING
    shown = markup.score(group["mean"])
    if group["half"] is not None:
        shown += f"<small> ± {markup.score(group['half'])}</small>"
    fewer = f"<small> (n {group['n']})</small>" if group["n"] != usual else ""
    values = ", ".join(f"{seed}: {value:.6g}" for seed, value in zip(group["seeds"], group["values"]))
    return f'<span title="seed {markup.e(values)}">{shown}{fewer}</span>'
