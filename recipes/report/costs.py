"""What runs cost, lineages counted: a stage that starts from an earlier model counts what that model cost, once."""

from collections.abc import Mapping, Sequence
from typing import Any

from recipes import ledger
from recipes.report import bindings

MEASURES = ("training_units", "flops", "tokens")


def lineage(stage: Mapping[str, Any], own: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The stages that `stage` descends from and itself, the oldest first, each with what it cost.

    Args:
      stage: as recipes/report/stage.py reads it.
      own: the stages of the same work directory by name; a descent through them is by `internal`.
    """
    found = []
    for entry in stage["lineage"]:
        inside = internal(entry, own)
        spent = own[entry["stage"]]["spent"] if inside else {name: entry[name] for name in MEASURES}
        found.append(_entry(entry["stage"], entry["recipe"], inside, spent, _key(entry)))
    if stage["spent"] is not None:
        found.append(_entry(stage["name"], "", True, stage["spent"], stage["name"]))
    return found


def internal(entry: Mapping[str, Any], own: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether an entry of a manifest's lineage is a stage of the same work directory: by digest, else by recipe."""
    there = own.get(entry["stage"])
    if there is None or there["spent"] is None:
        return False
    if entry.get("params_digest") and there["digest"]:
        return entry["params_digest"] == there["digest"]
    return entry.get("gin_hash") == there["gin_hash"]


def total(entries: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The sum over stages, each counted once."""
    spent = ledger.total(_spent(entry) for entry in entries)
    return {name: getattr(spent, name) for name in MEASURES}


def of_run(stages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What a work directory's stages cost, what the models they start from had cost, and both."""
    own = {stage["name"]: stage for stage in stages}
    entries = [entry for stage in stages for entry in lineage(stage, own)]
    sides = {
        "own": [entry for entry in entries if entry["inside"]],
        "inherited": [entry for entry in entries if not entry["inside"]],
        "all": entries,
    }
    return {side: total(found) for side, found in sides.items()} | {"parts": _once(entries)}


def comparisons(gin: bindings.Bindings, stages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What the recipe sets against each other (`Recipe.compare`), from what the stages have spent.

    Returns:
      Of each: `name`, `open` (final stages that aren't done), the sides `cheap` and `dear` with their final stages
      (`ends`), `parts` and totals, and, where nothing is open, `saved`: the share of each measure that `cheap` leaves.
    """
    own, found = {stage["name"]: stage for stage in stages}, []
    for name, *ends in gin.value("recipe.Recipe.compare") or ():
        unfinished = [end for side in ends for end in side if end not in own or own[end]["state"] != "done"]
        sides: list[dict[str, Any]] = []
        for side in ends:
            entries = _once([entry for end in side if end in own for entry in lineage(own[end], own)])
            sides.append({"ends": list(side), "parts": entries, **total(entries)})
        cheap, dear = sides
        saved = ledger.saved(*(_spent({"key": "", **side}) for side in sides))
        found.append(
            {
                "name": name,
                "open": list(dict.fromkeys(unfinished)),
                "cheap": cheap,
                "dear": dear,
                "saved": None if unfinished else {measure: getattr(saved, measure) for measure in MEASURES},
            }
        )
    return found


def _entry(stage: str, recipe: str, inside: bool, spent: Mapping[str, float], key: str) -> dict[str, Any]:
    name = stage if inside else f"{recipe}: {stage}"
    return {"stage": name, "inside": inside, "key": stage if inside else key, **{m: spent[m] for m in MEASURES}}


def _key(entry: Mapping[str, Any]) -> str:
    return f"{entry['recipe']}/{entry['stage']}/{entry['step']}/{entry.get('params_digest') or entry.get('gin_hash')}"


def _spent(entry: Mapping[str, Any]) -> ledger.Spent:
    return ledger.Spent(key=entry["key"], **{name: float(entry[name]) for name in MEASURES})


def _once(entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return list({entry["key"]: dict(entry) for entry in entries}.values())
