"""The section on compute: the ledger of every stage, bars against the alternatives, runs beside each other."""

from collections.abc import Mapping, Sequence
from typing import Any

from recipes.report import markup

_WORDS = {"training_units": "training units", "flops": "FLOPs", "tokens": "tokens"}


def section(data: Mapping[str, Any], styles: Mapping[str, str]) -> str:
    """Everything about cost; `styles` gives the colour class of a stage."""
    runs = data["runs"]
    several = len(runs) > 1
    ledgers = "".join(_ledger(run, several) for run in runs)
    pairs = "".join(_comparison(run, each, styles, several) for run in runs for each in run["comparisons"])
    beside = _beside(runs, styles) if several else ""
    return f"<section id=compute><h2>Compute</h2>{pairs}{beside}{ledgers}</section>"


def _ledger(run: Mapping[str, Any], several: bool) -> str:
    rows = []
    for stage in run["stages"]:
        spent, size, speed = stage["spent"] or {}, stage["parameters"] or {}, stage["speed"]
        steps = f"{stage['step']:,}"
        if stage["state"] != "done":
            steps = f"{steps} of {stage['steps']:,}" if stage["steps"] else steps
            at = stage["saved_step"]
            steps += f"<small>cost at {at:,}</small>" if spent and at != stage["step"] else ""
        waiting = speed.get("waiting")
        rows.append(
            (
                markup.e(stage["name"]),
                markup.e(stage["state"]),
                steps,
                markup.counted(spent.get("tokens")),
                markup.counted(size.get("trainable")),
                markup.counted(size.get("total")),
                markup.powered(spent.get("flops")),
                markup.powered(spent.get("training_units")),
                markup.counted(speed.get("tokens_per_second")),
                markup.NOTHING if waiting is None else markup.percent(waiting),
                markup.seconds(speed["seconds"]) if "seconds" in speed else markup.NOTHING,
            )
        )
    for name, words in (("inherited", "by earlier models"), ("all", "in all")):
        cost = run["total"][name]
        if cost["flops"] or name == "all":
            figures = [markup.powered(cost[measure]) for measure in ("flops", "training_units")]
            rows.append((words, "", "", markup.counted(cost["tokens"]), "", "", *figures, "", "", ""))
    head = ("stage", "state", "steps", "tokens", "trainable", "parameters", "FLOPs", "training units")
    title = f"Ledger of {markup.e(run['name'])}" if several else "Ledger"
    return markup.table((*head, "tokens/s", "waiting", "time"), rows, caption=title, left=2)


def _comparison(run: Mapping[str, Any], each: Mapping[str, Any], styles: Mapping[str, str], several: bool) -> str:
    figures = []
    for measure in ("training_units", "flops"):
        most = max(each[side][measure] for side in ("cheap", "dear"))
        bars = "".join(
            f"<dt>{markup.e(' and '.join(each[side]['ends']))}</dt>"
            f"<dd>{_bar(each[side]['parts'], measure, most, styles)}"
            f"<span>{markup.powered(each[side][measure])}</span></dd>"
            for side in ("cheap", "dear")
        )
        saved = "so far" if each["saved"] is None else markup.saving(each["saved"][measure])
        figures.append(f"<figure><figcaption>{_WORDS[measure]}: <b>{saved}</b></figcaption><dl>{bars}</dl></figure>")
    name = f"{run['name']}: {each['name']}" if several else each["name"]
    return f"<h3>{markup.e(name)}</h3><div class=pairs>{''.join(figures)}</div>"


def _beside(runs: Sequence[Mapping[str, Any]], styles: Mapping[str, str]) -> str:
    """The totals of the runs, earlier models counted, each with its share of the dearest's."""
    figures = []
    for measure, words in _WORDS.items():
        most = max(run["total"]["all"][measure] for run in runs)
        bars = "".join(
            f"<dt>{markup.e(run['name'])}</dt><dd>{_bar(run['total']['parts'], measure, most, styles)}"
            f"<span>{markup.powered(run['total']['all'][measure])}"
            f"{_of_most(run['total']['all'][measure], most)}</span></dd>"
            for run in runs
        )
        figures.append(f"<figure><figcaption>{words}</figcaption><dl>{bars}</dl></figure>")
    return f"<h3>The runs, earlier models counted</h3><div class=pairs>{''.join(figures)}</div>"


def _bar(parts: Sequence[Mapping[str, Any]], measure: str, most: float, styles: Mapping[str, str]) -> str:
    return markup.bar([(p["stage"], p[measure], styles.get(p["stage"], "outside")) for p in parts], most)


def _of_most(value: float, most: float) -> str:
    return "" if not most or value == most else f" <small>{100 * value / most:.3g}{markup.THIN}% of the most</small>"
