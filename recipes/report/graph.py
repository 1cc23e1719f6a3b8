"""The lineage of a run as SVG: a box for each stage, an edge for each handoff with what it copied, made and dropped.

Two drawings of the same forest: from left to right for a screen, indented from top to bottom for a phone or paper.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from recipes.report import costs, markup

_WIDTH, _HEIGHT, _GAP, _SKIP = 212, 66, 112, 26
_INDENT, _LABEL = 22, 26


@dataclasses.dataclass
class Node:
    """A stage in the graph.

    Attributes:
      name: what its box says first.
      style: classes of its box.
      lines: what the box says below.
      state: what it says at the right of its name.
      share: how much of its steps is done.
      parent: key of the node it starts from.
      edge: what the handoff did, up to three short lines.
      depth, row: where it stands.
    """

    name: str
    style: str
    lines: tuple[str, ...]
    state: str = ""
    share: float = 1.0
    parent: str | None = None
    edge: tuple[str, ...] = ()
    depth: int = 0
    row: int = 0


def draw(run: Mapping[str, Any], styles: Mapping[str, str]) -> str:
    """Both drawings of a run's lineage; `styles` gives the colour class of a stage."""
    nodes = forest(run, styles)
    if not nodes:
        return ""
    label = markup.e(f"Lineage of {run['name']}: " + "; ".join(map(_said, nodes.values())))
    return _across(nodes, label) + _down(nodes, label)


def forest(run: Mapping[str, Any], styles: Mapping[str, str]) -> dict[str, Node]:
    """The nodes in the order in which they are drawn: each after its parent."""
    own = {stage["name"]: stage for stage in run["stages"]}
    nodes: dict[str, Node] = {}
    for stage in run["stages"]:
        before: str | None = None
        for entry in stage["lineage"]:
            key = entry["stage"]
            if not costs.internal(entry, own):
                key = f"{entry['recipe']}: {entry['stage']}, step {entry['step']:,}"
                said = (
                    f"of recipe {entry['recipe']}",
                    f"{entry['step']:,} steps · {markup.power(entry['flops'])} FLOPs",
                )
                nodes.setdefault(key, Node(name=entry["stage"], style="outside", lines=said, parent=before))
            before = key
        planned = stage["planned_parent"]
        if before is None and planned is not None and stage["origin"] != "scratch":
            before = planned
            if planned not in own:
                nodes.setdefault(planned, Node(name=planned, style="outside", lines=("outside this run",)))
        nodes[stage["name"]] = _node(stage, styles.get(stage["name"], ""), before)
    return _placed(nodes)


def _node(stage: Mapping[str, Any], style: str, parent: str | None) -> Node:
    size, model = stage["parameters"], stage["model"] or {}
    lines: list[str] = []
    if size is not None:
        train = size.get("trainable", size["total"])
        part = " parameters" if train == size["total"] else f", {markup.count(train)} train"
        lines.append(f"{model.get('kind', '')} · {markup.count(size['total'])}{part}".removeprefix(" · "))
    if stage["state"] == "done":
        spent = f" · {markup.power(stage['spent']['flops'])} FLOPs" if stage["spent"] else ""
        lines.append(f"{stage['step']:,} steps{spent}")
    else:
        lines.append(f"{stage['step']:,} of {stage['steps'] or 0:,} steps")
    made = stage["handoff"] or {}
    told = [name for name in ("copied", "fresh", "dropped") if made.get(name) or (name == "copied" and name in made)]
    edge = tuple(f"{markup.count(made[name])} {name}" for name in told)
    return Node(
        name=stage["name"],
        style=f"{style} {stage['state'].replace(' ', '-')}",
        lines=tuple(lines),
        state="" if stage["state"] == "done" else stage["state"],
        share=1.0 if stage["state"] == "done" else stage["step"] / max(stage["steps"] or 1, 1),
        parent=parent,
        edge=(*edge, *(f"carries {item}" for item in made.get("carry", ()))),
    )


def _placed(nodes: dict[str, Node]) -> dict[str, Node]:
    """The nodes, parents first, with depth and row: a first child stands in its parent's row."""
    placed: dict[str, Node] = {}
    rows = 0

    def visit(key: str, depth: int) -> None:
        nonlocal rows
        node = nodes[key]
        node.depth, node.row = depth, rows
        placed[key] = node
        children = [child for child, found in nodes.items() if found.parent == key and child not in placed]
        for child in children:
            visit(child, depth + 1)
        rows += not children

    for key, node in nodes.items():
        if node.parent not in nodes:
            visit(key, 0)
    return placed


def _across(nodes: Mapping[str, Node], label: str) -> str:
    """From left to right, a column for each generation."""
    parts: list[str] = []
    for node in nodes.values():
        x, y = node.depth * (_WIDTH + _GAP), node.row * (_HEIGHT + _SKIP) + 1
        above = nodes.get(node.parent or "")
        if above is not None:
            left, top = x - _GAP, above.row * (_HEIGHT + _SKIP) + 1 + _HEIGHT / 2
            middle, low = left + 9, y + _HEIGHT / 2
            bend = f"M{left} {top}H{middle}V{low}" if low != top else f"M{left} {top}"
            parts.append(f'<path class="edge" d="{bend}H{x - 2}"/>')
            parts.append(f'<path class="tip" d="M{x - 1} {low}l-7 -4v8z"/>')
            for k, text in enumerate(node.edge[:4]):
                down = low + (-6 if k == 0 else 1 + 12 * k)
                parts.append(f'<text class="what" x="{x - 11}" y="{down}" text-anchor="end">{markup.e(text)}</text>')
        parts.append(_box(node, x + 1, y, _WIDTH))
    width = max(node.depth for node in nodes.values()) * (_WIDTH + _GAP) + _WIDTH + 2
    height = (max(node.row for node in nodes.values()) + 1) * (_HEIGHT + _SKIP) - _SKIP + 12
    return _svg("across", width, height, parts, label)


def _down(nodes: Mapping[str, Node], label: str) -> str:
    """From top to bottom, a stage a row, indented by generation."""
    parts: list[str] = []
    tops = {key: index * (_HEIGHT + _LABEL) + 1 for index, key in enumerate(nodes)}
    width = 300
    for key, node in nodes.items():
        x, y = node.depth * _INDENT + 1, tops[key]
        if node.parent is not None and node.parent in nodes:
            left, top = nodes[node.parent].depth * _INDENT + 11, tops[node.parent] + _HEIGHT
            parts.append(f'<path class="edge" d="M{left} {top}V{y + _HEIGHT / 2}H{x - 2}"/>')
            text = " · ".join(node.edge)
            parts.append(f'<text class="what" x="{x + 2}" y="{y - 7}">{markup.e(text)}</text>')
        parts.append(_box(node, x, y, width))
    wide = max(node.depth for node in nodes.values()) * _INDENT + width + 2
    return _svg("down", wide, len(nodes) * (_HEIGHT + _LABEL) - _LABEL + 2, parts, label)


def _box(node: Node, x: float, y: float, width: int) -> str:
    share = min(max(node.share, 0.0), 1.0) * (width - 2)
    lines = "".join(
        f'<text x="{x + 14}" y="{y + 37 + 16 * k}" class="fact">{markup.e(line)}</text>'
        for k, line in enumerate(node.lines[:2])
    )
    return (
        f'<g class="node {node.style}"><rect x="{x}" y="{y}" width="{width}" height="{_HEIGHT}" rx="5"/>'
        f'<rect class="stripe" x="{x}" y="{y}" width="5" height="{_HEIGHT}" rx="2"/>'
        f'<rect class="share" x="{x + 1}" y="{y + _HEIGHT - 3}" width="{share:.1f}" height="2"/>'
        f'<text x="{x + 14}" y="{y + 20}" class="name">{markup.e(_cut(node.name))}</text>'
        f'<text x="{x + width - 8}" y="{y + 20}" class="fact" text-anchor="end">{markup.e(node.state)}</text>'
        f"{lines}</g>"
    )


def _svg(style: str, width: float, height: float, parts: list[str], label: str) -> str:
    return (
        f'<div class="graph {style}" tabindex="0"><svg viewBox="0 0 {width} {height}" style="width:{width}px" '
        f'role="img" aria-label="{label}">{"".join(parts)}</svg></div>'
    )


def _cut(name: str, most: int = 24) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _said(node: Node) -> str:
    origin = f" from {node.parent}" if node.parent else ""
    return f"{node.name}{origin}" + (f" ({', '.join(node.edge)})" if node.edge else "")
