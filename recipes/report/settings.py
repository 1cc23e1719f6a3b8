"""The section on the recipe: its resolved bindings, and where those of several runs differ."""

from collections.abc import Mapping, Sequence
from typing import Any

from recipes.report import markup

FEW = 40
"""More bindings than these that only some runs have are folded at first."""


def section(data: Mapping[str, Any]) -> str:
    """One run: macros in sight, all bindings folded. Several: a row a binding, those that differ in sight."""
    rows, names = data["bindings"], [run["name"] for run in data["runs"]]
    if not rows:
        return ""
    shown = _alone(rows) if len(names) == 1 else _beside(rows, names)
    return f"<section id=recipe><h2>Recipe</h2>{shown}</section>"


def _alone(rows: Sequence[Mapping[str, Any]]) -> str:
    macros = [row for row in rows if _is_macro(row["key"])]
    first = "".join(
        f"<div><dt>{markup.e(row['key'])}</dt><dd>{markup.e(row['values'][0])}</dd></div>" for row in macros
    )
    others = [row for row in rows if not _is_macro(row["key"])]
    body = markup.table(("binding", "value"), [(_key(row["key"]), _value(row["values"][0])) for row in others], left=2)
    more = f"<details><summary>All {len(others)} resolved bindings</summary><div class=gin>{body}</div></details>"
    return f"<dl class=macros>{first}</dl>{more}"


def _beside(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    cells = "".join(f'<th scope="col">{markup.e(name)}</th>' for name in names)
    kinds = [_kind(row) for row in rows]
    body = "".join(
        f"<tr class={kind}><th scope=row>{_key(row['key'])}</th>"
        + "".join(f"<td{' class=mark' if kind != 'same' else ''}>{_value(value)}</td>" for value in row["values"])
        + "</tr>"
        for row, kind in zip(rows, kinds)
    )
    few = " checked" if kinds.count("partly") <= FEW else ""
    return (
        f"<p class=said>{kinds.count('differs')} bindings differ, {kinds.count('partly')} are bound in some runs "
        f"alone, {kinds.count('same')} are the same.</p>"
        f"<input type=checkbox id=partly-bound{few}><label for=partly-bound>bound in some runs alone</label>"
        "<input type=checkbox id=same><label for=same>the same</label>"
        f'<div class="wide gin" tabindex=0><table><thead><tr><th scope="col">binding</th>{cells}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _kind(row: Mapping[str, Any]) -> str:
    """`same`, `differs`, or `partly`: not bound in every run, as the bindings of a stage that one of them hasn't."""
    return "same" if not row["differs"] else "partly" if None in row["values"] else "differs"


def _is_macro(key: str) -> bool:
    return "." not in key and "/" not in key


def _key(key: str) -> str:
    """A key that may break at its joints."""
    return markup.e(key).replace("/", "/<wbr>").replace(".", ".<wbr>")


def _value(value: str | None) -> str:
    return '<span class="none">not bound</span>' if value is None else markup.e(value)
