"""Every family by the `model_type` of its configuration, and what can be said of all."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from models import initial, stack
from models.families import bart, bert, electra, gpt2, llama, modernbert, rules, t5
from models.families.fields import Fields

_KINDS = {"encdec": (t5, bart), "encoder": (bert, electra, modernbert, t5), "decoder": (gpt2, llama)}
_FAMILIES = {kind: family for family in (t5, bart, bert, electra, modernbert, gpt2, llama) for kind in family.TYPES}


def read(
    config: Mapping[str, Any], where: str, has: Callable[[str], bool], same: Callable[[str, str], bool]
) -> tuple[str, Any]:
    """The family's name and the model of a config.json; `has` and `same` look at the checkpoint's tensors.

    Raises:
      ValueError: a family, or an option of one, that no model here has.
    """
    kind = str(config.get("model_type"))
    if kind not in _FAMILIES:
        raise ValueError(f"{where}: model_type = {kind!r} is not supported, only {', '.join(_FAMILIES)}")
    return kind, _FAMILIES[kind].read(Fields(config, where), has, same)


def names(model: Any, kind: str) -> rules.Map:
    """The name map of a model in a family."""
    return _FAMILIES[kind].names(model, kind)


def write(model: Any, kind: str | None = None) -> tuple[str, dict[str, Any]]:
    """The family's name and the config.json of a model, in the family `kind` or the first that it fits.

    Raises:
      ValueError: it fits none; the message says what each lacks.
    """
    if kind is not None and kind not in _FAMILIES:
        raise ValueError(f"model_type = {kind!r} is not supported, only {', '.join(_FAMILIES)}")
    kinds = [kind] if kind else [one for family in _KINDS[model.kind] for one in family.TYPES]
    faults = []
    for one in kinds:
        try:
            config = _FAMILIES[one].write(model, one) | {"model_type": one}
            again = _FAMILIES[one].read(
                Fields(config, one), lambda name: name != "lm_head.weight" or not model.tied, lambda left, right: False
            )
            fault = difference(model, again)
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            fault = f"{type(error).__name__}: {error}"
        if fault is None:
            return one, config
        faults.append(f"{one} ({fault})")
    raise ValueError(f"the model fits no published family: {'; '.join(faults)}")


def difference(ours: Any, theirs: Any) -> str | None:
    """The first option in which two models compute differently, or None."""
    left, right = _flat(ours), _flat(theirs)
    if type(ours) is not type(theirs):
        return f"a model of kind {theirs.kind!r}, this one is of kind {ours.kind!r}"
    for name in left:
        if left[name] != right.get(name):
            return f"{name} would be {right.get(name)!r}, it is {left[name]!r}"
    return None


def _flat(model: Any) -> dict[str, Any]:
    """Every option that decides what a trained model computes or how it goes on training, by name."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(model):
        value = getattr(model, field.name)
        if isinstance(value, stack.Stack):
            found |= {f"{field.name}.{name}": option for name, option in _options(value).items()}
        elif field.name != "dtype":
            found[field.name] = value
    return found


def _options(of: stack.Stack) -> dict[str, Any]:
    default = stack.Stack(layers=1, width=2, heads=1, mlp=1)
    clean: dict[str, Any] = {"init": initial.Initial(), "remat": "none", "unroll": 1}
    clean |= {"head_dim": of.size, "kv_heads": of.groups, "final_norm": of.closing_norm}
    clean["embedding_width"] = None if of.embedding_width == of.width else of.embedding_width
    unread = [] if of.learned or of.rotary else ["max_positions"]
    unread += [] if of.learned else ["position_offset"]
    unread += [] if of.relative or of.positions == "relative_layers" else ["buckets", "max_distance"]
    unread += [] if of.rotary else ["rotary_base", "rotary_scaling", "local_rotary_base"]
    unread += [] if of.local is not None else ["global_every", "local_rotary_base"]
    unread += ["norm_bias"] if of.norm == "rmsnorm" else []
    clean |= {name: getattr(default, name) for name in unread}
    return dataclasses.asdict(dataclasses.replace(of, **clean))
