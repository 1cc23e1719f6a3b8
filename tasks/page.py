"""A preview as one HTML page: no scripts, nothing from outside, light and dark."""

import dataclasses
import html as escaping
from collections.abc import Iterable

from tasks import marks, survey

_CSS = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.3rem; } h2 { font-size: 1.05rem; margin-top: 2rem; }
.row { border-top: 1px solid #8886; padding: .6rem 0; overflow-wrap: anywhere; white-space: pre-wrap; }
.side { color: #888; font-size: .8rem; text-transform: uppercase; letter-spacing: .05em; }
.row span { border-radius: .25em; padding: 0 .1em; }
.sentinel { background: #0aa3; color: #077; } .mask { background: #c0c3; } .random { background: #f003; }
.kept { background: #0a03; } .mode, .doc { background: #fa05; } .end { color: #999; } .prefix { color: #888; }
.label { background: #06f3; } .border { background: #8884; color: #888; font-size: .75rem; margin: 0 .3em; }
.note { font-size: .8em; color: #888; }
@media (prefers-color-scheme: dark) { .sentinel { color: #5dd; } }
table { border-collapse: collapse; } td, th { padding: .1rem .8rem .1rem 0; text-align: left; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
.bar { display: inline-block; height: .8em; background: #47a; }
"""


def page(found: survey.Survey, rows: int) -> str:
    """Returns the page of a survey that shows `rows` rows."""
    title = _e(_title(found.data))
    shown = "".join(_row(found, row) for row in range(rows))
    figures = _table((), ((name, number(name, value)) for name, value in found.figures().items()))
    parts = _table(
        ("part", "rows", "share of tokens", "tokens in the store"),
        (
            (part, str(count), f"{share:.1%}", "" if stored is None else f"{stored:,}")
            for part, count, share, stored in found.composition()
        ),
    )
    bars = "".join(_histogram(side, bins) for side, bins in found.histograms().items())
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_CSS}</style></head>\n<body><h1>{title}</h1>\n<h2>Figures</h2>{figures}"
        f"<h2>Parts</h2>{parts}{bars}\n<h2>Rows</h2>{shown}</body></html>\n"
    )


def number(name: str, value: float) -> str:
    """Returns a figure of a survey as text: shares in per cent, counts whole, means with a digit."""
    if "share" in name or "without" in name:
        return f"{value:.1%}"
    return f"{int(value):,}" if value == int(value) else f"{value:.1f}"


def _title(data: object) -> str:
    if not dataclasses.is_dataclass(data):
        return type(data).__name__
    shown = []
    for field in dataclasses.fields(data):
        value = getattr(data, field.name)
        if value != field.default:
            shown.append(f"{field.name}={value!r}")
    return f"{type(data).__name__}: {', '.join(shown)}"


def _row(found: survey.Survey, row: int) -> str:
    part = found.parts[int(found.batch["part"][row])]
    lines = "".join(
        f'<div><span class="side">{side}</span> {"".join(map(_mark, made))}</div>'
        for side, made in marks.sides(found, row).items()
    )
    return f'<div class="row"><span class="side">row {row} · {_e(part)}</span>{lines}</div>\n'


def _mark(mark: marks.Mark) -> str:
    note = f'<span class="note">→{_e(mark.note.strip())}</span>' if mark.note else ""
    return f'<span class="{mark.style}">{_e(mark.text)}{note}</span>'


def _histogram(side: str, bins: list[tuple[int, int, int]]) -> str:
    most = max((count for *_, count in bins), default=1)
    lines = "".join(
        f'<tr><td class="number">{low} – {high}</td><td class="number">{count}</td>'
        f'<td><span class="bar" style="width:{20 * count / most:.2f}rem"></span></td></tr>'
        for low, high, count in bins
    )
    return f"<h2>Length of a piece, {side}</h2><table>{lines}</table>"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    first = f"<tr>{''.join(f'<th>{_e(cell)}</th>' for cell in head)}</tr>" if head else ""
    body = "".join(
        "<tr>" + "".join(f"<td{' class=number' if k else ''}>{_e(cell)}</td>" for k, cell in enumerate(row)) + "</tr>"
        for row in rows
    )
    return f"<table>{first}{body}</table>"


def _e(text: str) -> str:
    return escaping.escape(text)
