"""One stage of a work directory, from its files: what it is, how far it got, what it cost, how it went."""

import json
import statistics
from collections.abc import Mapping
from typing import Any

from etils import epath

from recipes.report import bindings, blends, evals, forgetting, metrics, saved

FRESH = 600
"""A stage that wrote something in the last so many seconds is taken to be running."""
_SHOWN = frozenset(
    "format recipe stage step steps clock start lineage spent skipped streak params_digest vocabulary model gin "
    "versions commit".split()
)


def read(folder: epath.Path, name: str, gin: bindings.Bindings, scope: str | None, now: float) -> dict[str, Any]:
    """What the folder of a stage tells; what isn't stored is None or absent.

    Args:
      folder: WORKDIR/<stage>; it need not be there.
      name: of the stage.
      gin: the recipe's bindings.
      scope: the stage's in the recipe, or None for a stage that the recipe hasn't.
      now: seconds since 1970, to tell a running stage from one that was stopped.
    """
    kept, lines = saved.read(folder), metrics.read(folder / "metrics.jsonl")
    scored, unread = evals.read(folder)
    forgotten, more = forgetting.read(folder)
    done, notes = _json(folder / "done"), [*kept.notes, *unread, *more]
    manifest = kept.manifest or {}
    own = bindings.Bindings(manifest["gin"]["text"]) if manifest else gin
    notes += _notes(folder, lines, done, manifest, gin, own)
    bound = f"{scope}/recipe.Stage" if scope is not None else ""
    start = manifest.get("start") or _begun(folder)
    frozen = own.value(f"{bound}.frozen")
    state = _state(folder, lines, done, manifest, now)
    seen = [column["step"][-1] for column in (lines["train"], *lines["evaluations"].values()) if column.get("step")]
    return {
        "name": name,
        "state": state,
        "step": max([manifest.get("step", 0), *(() if manifest and done else seen)]),
        "steps": manifest.get("steps") or own.value(f"{bound}.steps"),
        "saved_step": manifest.get("step"),
        "origin": start.get("origin"),
        "parent": start.get("parent"),
        "handoff": start.get("handoff"),
        "planned_parent": _source(own, bound),
        "lineage": manifest["lineage"] if manifest else _lineage(folder, start.get("parent")),
        "spent": (done or {}).get("spent") or manifest.get("spent"),
        "known": [[step, cost["tokens"], cost["flops"]] for step, cost in kept.spent],
        "parameters": saved.parameters(kept.folder, frozen) if kept.folder is not None else None,
        "frozen": list(frozen or ()),
        "model": manifest.get("model"),
        "seed": own.value(f"{bound}.seed"),
        "batch": own.value(f"{bound}.batch"),
        "digest": manifest.get("params_digest"),
        "vocabulary": manifest.get("vocabulary"),
        "versions": manifest.get("versions", {}),
        "commit": manifest.get("commit"),
        "gin_hash": (manifest.get("gin") or {}).get("hash"),
        "skipped": manifest.get("skipped"),
        "starts": sum(1 for _ in folder.glob("events.out.tfevents.*")) if folder.is_dir() else 0,
        "speed": _speed(lines),
        "blend": blends.composition(own, bound, lines["train"], manifest.get("vocabulary")),
        "metrics": lines,
        "final": _final(lines, done),
        "evals": scored,
        "forgetting": forgotten,
        "other": {key: value for key, value in manifest.items() if key not in _SHOWN and value is not None},
        "notes": notes,
    }


def _state(folder: epath.Path, lines: Mapping[str, Any], done: Any, manifest: Mapping[str, Any], now: float) -> str:
    """`done`, `running`, `stopped` or `not begun`."""
    if done is not None:
        return "done"
    if not folder.is_dir() or not (manifest or lines["lines"] or (folder / "checkpoints").is_dir()):
        return "not begun"
    written = [lines["ended"] or 0, *(path.stat().mtime for path in folder.iterdir())]
    return "running" if now - max(written) < FRESH else "stopped"


def _notes(
    folder: epath.Path,
    lines: Mapping[str, Any],
    done: Any,
    manifest: Mapping[str, Any],
    gin: bindings.Bindings,
    own: bindings.Bindings,
) -> list[str]:
    found: list[str] = []
    if lines["cut"]:
        found.append(f"metrics.jsonl: {lines['cut']} cut short or unreadable, left out")
    if lines["not_finite"]:
        found.append(f"metrics.jsonl: {lines['not_finite']} numbers aren't finite, left out of the curves")
    if lines["shown"] < lines["lines"]:
        found.append(f"curves show {lines['shown']:,} of {lines['lines']:,} lines, the highest losses among them")
    if done is None and (folder / "done").exists():
        found.append("its file 'done' can't be read")
    if done is not None and not manifest:
        found.append("it is done and no sound checkpoint of it is left")
    changed = [key for key in dict.fromkeys((*own, *gin)) if own.get(key) != gin.get(key)] if len(gin) else []
    if changed:
        said = "; ".join(f"{key} = {own.get(key, '(nothing)')}, now {gin.get(key, '(nothing)')}" for key in changed[:4])
        more = f"; and {len(changed) - 4} more" if len(changed) > 4 else ""
        found.append(f"it was saved by a recipe other than the recipe.gin of now: {said}{more}")
    return found


def _begun(folder: epath.Path) -> dict[str, Any]:
    """How a stage without a checkpoint began, as its handoff.json says."""
    said = _json(folder / "handoff.json")
    if not said or "parameters" not in said:
        return {}
    parent = {key: said.get(key) for key in ("directory", "step", "params_digest")}
    return {"origin": "handoff", "parent": parent, "handoff": said["parameters"]}


def _lineage(folder: epath.Path, parent: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """What a stage without a checkpoint descends from, by the manifest of the one it started from, if it is there."""
    if not parent or not parent.get("directory"):
        return []
    directory = epath.Path(parent["directory"])
    for home in (folder.parent / directory.name, directory):
        found = _json(home / "checkpoints" / str(parent["step"]) / "manifest" / "metadata")
        if found and found.get("params_digest") == parent["params_digest"]:
            own = {key: found[key] for key in ("recipe", "stage", "step", "params_digest")}
            return [*found["lineage"], own | {"gin_hash": found["gin"]["hash"], **found["spent"]}]
    return []


def _source(gin: bindings.Bindings, bound: str) -> str | None:
    """The source of the stage's handoff, by the recipe."""
    handoff = gin.reference(f"{bound}.start", bound.rpartition("/")[0])
    return gin.value(f"{handoff[0]}/{handoff[1]}.source") if handoff else None


def _speed(lines: Mapping[str, Any]) -> dict[str, float]:
    """Tokens a second (median of the lines) and waiting (mean share), where they are there; seconds on the clock."""
    found: dict[str, float] = {}
    for name, over in (
        ("tokens_per_second", statistics.median),
        ("waiting", statistics.fmean),
        ("mfu", statistics.median),
    ):
        values = [value for value in lines["train"].get(name, ()) if value is not None]
        if values:
            found[name] = float(f"{over(values):.6g}")
    if lines["began"] is not None:
        found["seconds"] = lines["ended"] - lines["began"]
    return found


def _final(lines: Mapping[str, Any], done: Any) -> dict[str, float]:
    """The last figure of each evaluation, `<evaluation>/<figure>`; a finished stage's are those of its `done`."""
    if done is not None and isinstance(done.get("scores"), dict) and done["scores"]:
        return {name: value for name, value in done["scores"].items() if isinstance(value, int | float)}
    return {
        f"{name}/{figure}": value
        for name, columns in lines["evaluations"].items()
        for figure, value in metrics.last(columns).items()
    }


def _json(file: epath.Path) -> Any:
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
