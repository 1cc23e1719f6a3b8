"""The section on blends: which parts a stage learns from, and at what rates."""

import json
from collections.abc import Mapping
from typing import Any

from recipes.report import markup


def section(data: Mapping[str, Any]) -> str:
    """One figure for each blend; stages that share one stand together."""
    groups: dict[str, tuple[Mapping[str, Any], list[str]]] = {}
    for run in data["runs"]:
        for stage in run["stages"]:
            if stage["blend"] is not None:
                name = f"{run['name']}: {stage['name']}" if len(data["runs"]) > 1 else stage["name"]
                groups.setdefault(json.dumps(stage["blend"]), (stage["blend"], []))[1].append(name)
    figures = "".join(_figure(blend, names) for blend, names in groups.values())
    return f"<section id=blend><h2>Blend</h2><div class=blends>{figures}</div></section>" if figures else ""


def _figure(blend: Mapping[str, Any], stages: list[str]) -> str:
    said = [f"<code>{markup.e(blend['name'])}</code>"] if blend["name"] else []
    said += [f"split {markup.e(blend['split'])}"] if blend["split"] else []
    said += [markup.e(blend["rule"])] if blend["rule"] else []
    most = max((part["share"] or 0.0 for part in blend["parts"]), default=0.0)
    rows = "".join(_part(part, most) for part in blend["parts"])
    listed = f"<dl class=shares>{rows}</dl>" if rows else ""
    wide = " class=full" if len(blend["parts"]) > 1 else ""
    return (
        f"<figure{wide}><figcaption><b>{markup.e(', '.join(stages))}</b><br>{markup.e(blend['of'])} · "
        f"{' · '.join(said)}</figcaption>{listed}</figure>"
    )


def _part(part: Mapping[str, Any], most: float) -> str:
    share, tokens = part["share"], part["tokens"]
    amount = markup.percent(share) if share is not None else ""
    size = f"{markup.count(tokens)} tokens" if tokens is not None else ""
    width = 100 * share / most if share is not None and most else 0
    shown = f"<div><i style='width:{width:.1f}%'></i></div><span>{amount}</span>" if most else ""
    return f"<div><dt>{markup.e(part['name'])}</dt><dd>{shown}<small>{size}</small></dd></div>"
