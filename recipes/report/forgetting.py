"""What was forgotten between two stages: what `baton eval --forgetting` left beside the later one, and its section."""

import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from recipes.report import markup

_KEYS = ("before", "after", "scores", "unscored", "data", "loss", "loss_reason", "cka", "tokens", "notes")
_HEAD = ("before", "after", "difference")


def read(stage: epath.Path) -> tuple[list[dict[str, Any]], list[str]]:
    """What `eval/forgetting/*/forgetting.json` of a stage say, and what is wrong with those that can't be read."""
    found, notes = [], []
    for file in sorted(stage.glob("eval/forgetting/*/forgetting.json")):
        try:
            said = json.loads(file.read_text(), parse_constant=_refuse)
            found.append({key: said[key] for key in _KEYS})
        except (OSError, ValueError, KeyError, TypeError):
            notes.append(f"{file.relative_to(stage)} can't be read")
    return found, notes


def _refuse(number: str) -> None:
    """A loss of a model that has gone astray has no place in a table, nor in the page's JSON."""
    raise ValueError(f"{number} is no number")


def section(data: Mapping[str, Any]) -> str:
    """For each pair of stages: old tasks, the old objective's loss, and how alike the layers are, as bars."""
    each = "".join(_pair(found) for run in data["runs"] for stage in run["stages"] for found in stage["forgetting"])
    return f"<section id=forgetting><h2>Forgetting</h2>{each}</section>" if each else ""


def _pair(found: Mapping[str, Any]) -> str:
    names = [f"{markup.e(found[side]['folder'])} step {found[side]['step']:,}" for side in ("before", "after")]
    tables = "".join([_scores(found["scores"]), _loss(found), _layers(found)])
    said = [*found["unscored"], *found["notes"]]
    if found["loss_reason"] is not None:
        said.append(f"the old objective's loss isn't for the model after: {found['loss_reason']}")
    words = "".join(f"<li>{markup.e(line)}</li>" for line in said)
    listed = f"<ul class=said>{words}</ul>" if words else ""
    return f"<h3>from {names[0]} to {names[1]}</h3><div class=tables>{tables}</div>{listed}"


def _scores(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    cells = [
        (
            markup.e(f"{row['task']} {row['figure']}"),
            *(_seeds(row[side]) for side in ("before", "after")),
            _difference(row),
        )
        for row in rows
    ]
    return markup.table(("old task", *_HEAD), cells, caption="Scores, ± half the 95 % interval over seeds (Welch)")


def _loss(found: Mapping[str, Any]) -> str:
    if not found["loss"]:
        return ""
    of = found["data"]
    cells = [
        (markup.e(row["figure"]), markup.score(row["before"]), markup.score(row["after"]), _difference(row))
        for row in found["loss"]
    ]
    what = f"{of['objective']} on {of['source']}, {of['split']}: {of['batches']} batches of {of['rows']} rows"
    return markup.table(
        ("old corpus", *_HEAD), cells, caption=f"{markup.e(what)}, ± half the 95 % interval over batches"
    )


def _layers(found: Mapping[str, Any]) -> str:
    if not found["cka"]:
        return ""
    names = ["embeddings", *(str(number) for number in range(1, max(map(len, found["cka"].values()))))]
    columns = [[_alike(value) for value in values] for values in found["cka"].values()]
    rows = itertools.zip_longest(names, *columns, fillvalue="")
    tokens = " and ".join(f"{count:,} {side}" for side, count in found["tokens"].items())
    return markup.table(
        ("layer", *found["cka"]), rows, caption=f"Linear CKA of the layers' states, debiased, over {tokens} tokens"
    )


def _alike(value: float | None) -> str:
    """A bar as long as the value, from 0 to 1, and the value."""
    if value is None:
        return markup.NOTHING
    return f"<div class=alike>{markup.bar([('CKA', max(value, 0.0), 'c0')], 1.0)}{value:.4f}</div>"


def _seeds(side: Mapping[str, Any]) -> str:
    values = ", ".join(f"{value:.6g}" for value in side["values"])
    return f'<span title="{values}">{markup.score(side["mean"])}<small> (n {side["n"]})</small></span>'


def _difference(row: Mapping[str, Any]) -> str:
    sign = "+" if row["difference"] >= 0 else "−"
    spread = f"<small> ± {markup.score(row['interval'])}</small>" if row["interval"] is not None else ""
    return f"{sign}{markup.score(abs(row['difference']))}{spread}"
