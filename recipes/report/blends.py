"""What a stage learns from: the parts of its blend and their shares, from the recipe and the store's manifests."""

import json
import re
from collections.abc import Mapping
from typing import Any

from etils import epath

from recipes.report import bindings
from tasks import rates as blended


def composition(
    gin: bindings.Bindings, bound: str, train: Mapping[str, Any], vocabulary: str | None
) -> dict[str, Any] | None:
    """The blend of a stage, or None where the recipe doesn't say.

    Args:
      gin: the recipe's bindings.
      bound: the stage's key, `scope/recipe.Stage`.
      train: columns of the stage's training lines; `loss/<part>` names its parts.
      vocabulary: fingerprint of the vocabulary the stage was trained with.

    Returns:
      `of` (the class), `name` (store or mixture), `split`, `rule` (how shares come about), `parts` (name, `share` of
      the rows or None where it can't be told, `tokens` in the store or None).
    """
    data = gin.reference(f"{bound}.data", bound.rpartition("/")[0])
    if data is None:
        return None
    key = f"{data[0]}/{data[1]}" if data[0] else data[1]
    kind, split = data[1].split(".")[-1], gin.value(f"{key}.split")
    named = [name.removeprefix("loss/") for name in train if name.startswith("loss/")]
    if kind != "Blend":
        mixture = gin.value(f"{key}.mixture")
        parts = [_part(name, None, None) for name in named]
        return {"of": kind, "name": mixture, "split": split, "rule": None, "parts": parts}
    store, alpha, rates = (gin.value(f"{key}.{field}") for field in ("store", "alpha", "rates"))
    rates = rates or _joined(gin, key, data[0])
    select = gin.value(f"{key}.select")
    tokens = _tokens(store, split, vocabulary)
    names = [name for name, _ in rates or ()] or list(select or ()) or list(tokens) or named
    if rates:
        weights, rule = dict(rates), "explicit rates"
    elif tokens and alpha is not None and set(names) <= set(tokens):
        weights, rule = {name: tokens[name] ** alpha for name in names}, f"tokens^{alpha:g}"
    else:
        weights, rule = {}, f"tokens^{alpha:g}; the store isn't there to say how many" if alpha is not None else None
    total = sum(weights.values())
    return {
        "of": kind,
        "name": store,
        "split": split,
        "rule": rule,
        "parts": [
            _part(name, weights[name] / total if total and name in weights else None, tokens.get(name))
            for name in names
        ],
    }


def _joined(gin: bindings.Bindings, key: str, scope: str) -> blended.Rates | None:
    """The rates that `rates.joined` makes of other blends, where a recipe binds it; None where it can't be told."""
    found = gin.reference(f"{key}.rates", scope)
    if found is None or not found[1].endswith("rates.joined"):
        return None
    bound = f"{found[0]}/{found[1]}" if found[0] else found[1]
    try:
        return blended.joined(_elements(gin, f"{bound}.blends"), _elements(gin, f"{bound}.shares"))
    except (ValueError, TypeError):
        return None


def _elements(gin: bindings.Bindings, key: str) -> tuple[Any, ...]:
    """The elements of a tuple that is written out, or made of macros."""
    literal = gin.value(key)
    if literal is not None:
        return literal
    return tuple(gin.value(name) for name in re.findall(r"%(\w+)", gin.get(key, "")))


def _tokens(store: Any, split: str | None, vocabulary: str | None) -> dict[str, int]:
    """The tokens of each part of a store; nothing when it isn't there or is of another vocabulary."""
    found: dict[str, int] = {}
    if not isinstance(store, str) or not epath.Path(store).is_dir():
        return found
    for child in sorted(epath.Path(store).iterdir()):
        try:
            manifest = json.loads((child / "manifest.json").read_text())
            if manifest["split"] == split and vocabulary in (None, manifest["vocabulary_fingerprint"]):
                found[manifest["part"]] = manifest["tokens"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found


def _part(name: str, share: float | None, tokens: int | None) -> dict[str, Any]:
    return {"name": name, "share": None if share is None else float(f"{share:.6g}"), "tokens": tokens}
