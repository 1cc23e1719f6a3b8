"""The recipes of several runs beside each other: one row a binding, and which of them differ."""

from collections.abc import Mapping
from typing import Any

from recipes.report import bindings


def aligned(texts: Mapping[str, str]) -> list[dict[str, Any]]:
    """Every binding of any run, in the order of the texts: `key`, `values` (one a run, None unbound), `differs`."""
    read = [bindings.Bindings(text) for text in texts.values()]
    keys: list[str] = []
    for found in read:
        _merge(keys, list(found))
    rows = []
    for key in keys:
        values = [found.get(key) for found in read]
        rows.append({"key": key, "values": values, "differs": len(set(values)) > 1})
    return rows


def _merge(keys: list[str], more: list[str]) -> None:
    """Puts the keys of `more` that are new into `keys`, each after the one it follows there."""
    known, at = set(keys), 0
    for key in more:
        if key in known:
            at = keys.index(key) + 1
        else:
            keys.insert(at, key)
            at += 1
