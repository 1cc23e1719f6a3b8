"""A recipe built in Python, as gin text that builds it again: so that it runs, resumes and is recorded."""

import dataclasses
from typing import Any


def spell(value: Any) -> str:
    """Returns gin text that `config.load` turns into a value equal to `value`.

    Args:
      value: a dataclass of models/, tasks/ or recipes/; its fields hold such, tuples, functions and plain values.
    """
    blocks: list[str] = []
    imports: set[str] = set()
    _block(value, "", blocks, imports)
    return "\n".join(["from __gin__ import dynamic_registration", *sorted(imports), "", *blocks])


def _block(value: Any, scope: str, blocks: list[str], imports: set[str]) -> str:
    """Appends the bindings of one dataclass under a scope of its own and returns its name."""
    name = f"{scope}/" * bool(scope) + _name(type(value), imports)
    lines = [f"{name}:"]
    for field in dataclasses.fields(value):
        if field.init:
            inner = f"{scope}_{field.name}" if scope else field.name
            lines.append(f"  {field.name} = {_expression(getattr(value, field.name), inner, blocks, imports)}")
    if len(lines) > 1:
        blocks.append("\n".join(lines) + "\n")
    return name


def _expression(value: Any, scope: str, blocks: list[str], imports: set[str]) -> str:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return f"@{_block(value, scope, blocks, imports)}()"
    if isinstance(value, tuple | list):
        inner = [_expression(item, f"{scope}_{index}", blocks, imports) for index, item in enumerate(value)]
        return f"({', '.join(inner)}{',' * (len(inner) == 1)})"
    if callable(value):
        return f"@{_name(value, imports)}"
    return repr(value)


def _name(of: Any, imports: set[str]) -> str:
    package, _, module = of.__module__.rpartition(".")
    imports.add(f"from {package} import {module}")
    return f"{module}.{of.__qualname__}"
