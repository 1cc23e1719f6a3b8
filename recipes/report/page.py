"""The report as one HTML page: what was collected, its sections, style and scripts, nothing from outside."""

import json
import pathlib
import re
from collections.abc import Mapping
from typing import Any

from recipes import recipe
from recipes.report import (
    composition,
    curves,
    forgetting,
    graph,
    markup,
    opening,
    provenance,
    scoring,
    settings,
    spending,
)

COLOURS = 8
_HERE = pathlib.Path(__file__).parent
_MARK = '<meta name="generator" content="baton report">'


def render(data: Mapping[str, Any]) -> str:
    """The page of what recipes/report/collect.py collected; the same value stands in it as JSON, in `#data`."""
    styles = colours(data)
    sections = {
        "summary": opening.section(data),
        "lineage": _lineage(data, styles),
        "curves": curves.section(data),
        "blend": composition.section(data),
        "compute": spending.section(data, styles),
        "scores": scoring.section(data),
        "forgetting": forgetting.section(data),
        "recipe": settings.section(data),
        "environment": provenance.section(data),
    }
    links = "".join(f"<a href=#{name}>{name}</a>" for name, text in sections.items() if text and name != "summary")
    values = {
        "generator": _MARK,
        "title": markup.e(opening.title(data)),
        "style": _file("style.css"),
        "head": sections.pop("summary"),
        "links": links,
        "body": "\n".join(filter(None, sections.values())),
        "data": embedded(data),
        "script": _file("chart.js") + _file("page.js"),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: values[found[1]], _file("page.html"))


def embedded(data: Mapping[str, Any]) -> str:
    """JSON that may stand inside a script element: no `<` in it, every number finite."""
    return json.dumps(data, allow_nan=False, ensure_ascii=False).replace("<", "\\u003c")


def check(file: pathlib.Path) -> None:
    """Raises Mistake when a report can't be written to `file`, or would overwrite something that is none."""
    if file.is_dir():
        raise recipe.Mistake(f"--out {file} is a directory; name a file in it, for instance {file / 'report.html'}")
    if not file.parent.is_dir():
        raise recipe.Mistake(f"--out {file}: there is no directory {str(file.parent)!r}; make it first")
    if file.exists() and _MARK.encode() not in file.read_bytes()[:2000]:
        raise recipe.Mistake(f"--out {file} is there and is no report of baton; name another file or move it away")


def write(data: Mapping[str, Any], file: pathlib.Path) -> None:
    """Writes the page of `data`; an older report is replaced at once, or not at all."""
    check(file)
    temporary = file.with_name(f".{file.name}.tmp")
    temporary.write_text(render(data), encoding="utf-8")
    temporary.replace(file)


def colours(data: Mapping[str, Any]) -> dict[str, str]:
    """The colour class of each stage's name; the same name has the same colour in every run."""
    names = dict.fromkeys(stage["name"] for run in data["runs"] for stage in run["stages"])
    return {name: f"c{index % COLOURS}" for index, name in enumerate(names)}


def _lineage(data: Mapping[str, Any], styles: Mapping[str, str]) -> str:
    several = len(data["runs"]) > 1
    drawn = "".join(
        (f"<h3>{markup.e(run['name'])}</h3>" if several else "") + graph.draw(run, styles)
        for run in data["runs"]
        if run["stages"]
    )
    return f"<section id=lineage><h2>Lineage</h2>{drawn}</section>" if drawn else ""


def _file(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")
