"""Numbers for people, and the few HTML pieces that every section is made of."""

import html
import math
from collections.abc import Iterable, Sequence

_SUPERSCRIPTS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
THIN = "\u202f"
"""A narrow space that doesn't break, between a number and its unit."""
NOTHING = '<span class="none">–</span>'


def e(text: object) -> str:
    """Text, escaped for HTML."""
    return html.escape(str(text))


def count(value: float) -> str:
    """A count in three digits: 790 k, 1.39 M; small ones as they are."""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * size and value >= 10_000:
            return f"{_digits(value / size)}{THIN}{letter}"
    return f"{value:,.0f}"


def power(value: float) -> str:
    """A number in three digits, by a power of ten where it is very large or small: 1.05×10¹²."""
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.3g}"
    exponent = math.floor(math.log10(abs(value)))
    mantissa = f"{value / 10**exponent:.2f}"
    if mantissa.startswith("10"):
        exponent, mantissa = exponent + 1, "1.00"
    return f"{mantissa}×10{str(exponent).translate(_SUPERSCRIPTS)}"


def score(value: float) -> str:
    """A loss or a score."""
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.1f}"


def percent(share: float) -> str:
    """A share in per cent."""
    return f"{100 * share:.1f}{THIN}%"


def saving(share: float) -> str:
    """27.0 % saved, or 3.1 % more."""
    return f"{percent(abs(share))} {'saved' if share >= 0 else 'more'}"


def seconds(value: float) -> str:
    """A duration: 45 s, 12 min, 3 h 20 min, 2 d 4 h."""
    minutes, hours, days = int(value // 60), int(value // 3600), int(value // 86400)
    if minutes < 1:
        return f"{value:.0f}{THIN}s"
    if hours < 1:
        return f"{minutes}{THIN}min"
    if days < 1:
        return f"{hours}{THIN}h {minutes % 60}{THIN}min"
    return f"{days}{THIN}d {hours % 24}{THIN}h"


def exact(shown: str, value: float) -> str:
    """A shortened number that tells the whole one when pointed at."""
    whole = f"{value:,.0f}" if float(value).is_integer() and abs(value) < 1e15 else repr(value)
    return shown if whole == shown else f'<span title="{e(whole)}">{shown}</span>'


def counted(value: float | None) -> str:
    """A count as HTML, or a dash."""
    return NOTHING if value is None else exact(count(value), value)


def powered(value: float | None) -> str:
    """A large or small number as HTML, or a dash."""
    return NOTHING if value is None else exact(power(value), value)


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, caption: str = "", left: int = 1) -> str:
    """A table of HTML cells; the first `left` columns are text, the others numbers. It scrolls by itself if wide."""
    cells = [f'<th scope="col"{"" if k < left else " class=n"}>{cell}</th>' for k, cell in enumerate(head)]
    body = "".join(
        "<tr>"
        + "".join(
            f'<th scope="row">{cell}</th>' if k == 0 else f"<td{'' if k < left else ' class=n'}>{cell}</td>"
            for k, cell in enumerate(row)
        )
        + "</tr>"
        for row in rows
    )
    title = f"<caption>{caption}</caption>" if caption else ""
    first = f"<thead><tr>{''.join(cells)}</tr></thead>" if any(head) else ""
    return f'<div class="wide" tabindex="0"><table>{title}{first}<tbody>{body}</tbody></table></div>'


def notes(lines: Iterable[str]) -> str:
    """Lines that call for attention; nothing without any."""
    items = "".join(f"<li>{e(line)}</li>" for line in lines)
    return f'<ul class="notes">{items}</ul>' if items else ""


def bar(parts: Sequence[tuple[str, float, str]], most: float) -> str:
    """One bar of (name, value, style class) beside others whose longest is `most`."""
    total = sum(value for _, value, _ in parts) or 1.0
    inner = "".join(
        f'<i class="{style}" style="flex-grow:{value / total:.4f}" title="{e(name)}: {power(value)}">'
        f"{f'<b>{e(name)}</b>' if value > 0.12 * most else ''}</i>"
        for name, value, style in parts
        if value > 0
    )
    return f'<div class="bar"><div style="width:{100 * total / (most or 1.0):.2f}%">{inner}</div></div>'


def _digits(value: float) -> str:
    return f"{value:.0f}" if value >= 99.95 else f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"
