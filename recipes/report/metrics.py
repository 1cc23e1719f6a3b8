"""A stage's metrics.jsonl as columns: training lines and each evaluation apart, thinned where there are many.

A number that isn't finite becomes None, so that browsers can read it, and is counted. Numbers keep six digits.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

LIMIT = 2000
Line = Mapping[str, Any]
Columns = dict[str, list[Any]]


def read(file: epath.Path) -> dict[str, Any]:
    """Everything the file says.

    Returns:
      `train` and each of `evaluations` as columns (`step` and the names of the figures, an evaluation's without its
      own name before them), `lines` and `shown` (how many there are, how many the columns hold), `cut` (lines that
      can't be read, as a kill leaves one), `not_finite` (numbers that aren't), `began`, `ended` (seconds since 1970).
    """
    text = file.read_bytes().decode(errors="replace") if file.exists() else ""
    parsed = [_parse(line) for line in text.splitlines() if line.strip()]
    lines = [line for line in parsed if line is not None]
    train: list[Line] = []
    evaluations: dict[str, list[Line]] = {}
    for line in lines:
        for name, own in _split(line).items():
            (evaluations.setdefault(name, []) if name else train).append({"step": line["step"], **own})
    shown = {name: thin(own, "loss") for name, own in evaluations.items()}
    times = [line["time"] for line in lines if isinstance(line.get("time"), int | float)]
    kept = thin(train, "loss")
    return {
        "train": _columns(kept),
        "evaluations": {name: _columns(own) for name, own in shown.items()},
        "lines": len(train) + sum(map(len, evaluations.values())),
        "shown": len(kept) + sum(map(len, shown.values())),
        "cut": len(parsed) - len(lines),
        "not_finite": sum(isinstance(x, float) and not math.isfinite(x) for line in lines for x in line.values()),
        "began": round(times[0]) if times else None,
        "ended": round(times[-1]) if times else None,
    }


def thin(lines: Sequence[Line], by: str, limit: int = LIMIT) -> list[Line]:
    """At most about `limit` lines: of each run of lines the last, and the one highest in `by`, so that peaks stay."""
    if len(lines) <= limit:
        return list(lines)
    size = math.ceil(2 * len(lines) / limit)
    kept: list[Line] = []
    for start in range(0, len(lines), size):
        own = lines[start : start + size]
        peak = max(own, key=lambda line: _height(line.get(by)))
        kept += [own[-1]] if peak is own[-1] else [peak, own[-1]]
    return kept


def last(columns: Columns) -> dict[str, float]:
    """The last value of each figure."""
    found = {}
    for name, values in columns.items():
        there = [value for value in values if value is not None]
        if name != "step" and there:
            found[name] = there[-1]
    return found


def _parse(line: str) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
        return {**found, "step": int(found["step"])}
    except (ValueError, KeyError, TypeError):
        return None  # a line cut short by a kill, or being written


def _split(line: Line) -> dict[str, dict[str, Any]]:
    """The figures of a line by evaluation; those of training, `loss/<part>` among them, under the empty name."""
    found: dict[str, dict[str, Any]] = {}
    for name, value in line.items():
        if name in ("step", "time"):
            continue
        first, _, rest = name.partition("/")
        own = found.setdefault("" if not rest or first in line else first, {})
        own[name if not rest or first in line else rest] = value
    return found


def _columns(lines: Sequence[Line]) -> Columns:
    names = dict.fromkeys(name for line in lines for name in line)
    return {name: [_number(line.get(name)) for line in lines] for name in names}


def _number(value: Any) -> int | float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value if isinstance(value, int) else float(f"{value:.6g}")


def _height(value: Any) -> float:
    number = _number(value)
    return -math.inf if number is None else number
