"""The section on curves: the places that chart.js and page.js draw into, and their controls."""

from collections.abc import Mapping
from typing import Any

_AXES = (("steps", "steps"), ("tokens", "tokens"), ("flops", "FLOPs"))


def section(data: Mapping[str, Any]) -> str:
    """Controls and empty charts; nothing where no run has a line of metrics."""
    stages = [stage for run in data["runs"] for stage in run["stages"]]
    if not any(stage["metrics"]["lines"] for stage in stages):
        return ""
    axes = "".join(
        f"<label><input type=radio name=axis value={value}{' checked' if value == 'steps' else ''}>{words}</label>"
        for value, words in _AXES
    )
    return (
        "<section id=curves><h2>Curves</h2><noscript><p class=said>The curves are drawn by JavaScript, which is off; "
        "everything else is here.</p></noscript><div class=charts hidden>"
        f"<div class=controls><fieldset><legend>x axis, along the lineage</legend>{axes}</fieldset>"
        "<label class=slider>smoothing <input type=range id=smoothing min=0 max=10 step=0.5 value=1>"
        "<output id=smoothed></output></label>"
        "<label><input type=checkbox id=raw checked>unsmoothed, faint</label>"
        "<button type=button id=reset hidden>whole range</button></div>"
        '<div id=legend class=legend role=group aria-label="Stages shown"></div>'
        "<h3>Loss</h3><div class=chart id=loss data-height=320></div>"
        "<h3>Learning rate</h3><div class=chart id=rate data-height=120></div>"
        "<div class=two><div id=partly><div class=controls><h3>Loss of each part</h3>"
        "<label>stage <select id=part-stage></select></label><label>of <select id=part-kind></select></label></div>"
        "<div id=part-legend class=legend role=group aria-label='Parts shown'></div>"
        "<div class=chart id=parts data-height=220></div></div>"
        "<div><div class=controls><h3>Other figures</h3><label>figure <select id=figure></select></label></div>"
        "<div class=chart id=figures data-height=220></div></div></div>"
        "<p class=said>Drag, or swipe sideways, to zoom; twice to see the whole range. With the keyboard: arrows move "
        "the read-out, + and − zoom, 0 resets. Tokens and FLOPs of a line are interpolated between checkpoints. "
        "Smoothing is a Gaussian as wide as this share of a stage's lines.</p></div></section>"
    )
