"""How every parameter of a stage lies on the mesh, and rules that do nothing."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from recipes import mesh, recipe


def problems(rules: recipe.Rules, leaves: Mapping[str, Any], shape: Mapping[str, int]) -> list[str]:
    """Mesh axes that split nothing. What a rule makes impossible `mesh.spec` refuses, parameter by parameter."""
    table = dataclasses.asdict(rules)
    used = {name for leaf in leaves.values() for name in leaf.axes}
    if shape["tensor"] > 1 and not any(table[name] == "tensor" for name in used):
        return [
            f"mesh axis 'tensor' has {shape['tensor']} devices and splits no parameter: they would all do the same; "
            "set a rule to 'tensor' or Mesh.tensor = 1"
        ]
    return []


def sequence_problems(stage: recipe.Stage, devices: int) -> list[str]:
    """Why a stage's rows can't be split along their length over so many devices."""
    if devices == 1:
        return []
    found = [
        f"Mesh.sequence = {devices} splits rows and {side}/Stack.attention = {stack.attention!r} needs them whole; "
        "set it to 'plain' or Mesh.sequence = 1"
        for side, stack in stage.model.stacks.items()
        if stack.attention != "plain"
    ]
    for name, (shape, _) in stage.data.spec(stage.batch).items():
        if name.endswith("_segments") and shape[1] % devices:
            found.append(
                f"{name.removesuffix('_segments')} rows of {shape[1]} positions don't divide over Mesh.sequence = "
                f"{devices}; change the length or the mesh"
            )
    return found


def unused(of: recipe.Recipe) -> list[str]:
    """Rules set to other than their default whose logical axis no parameter of any stage has."""
    used = {name for stage in of.stages for leaf in stage.model.abstract().values() for name in leaf.axes}
    fields = {field.name: field.default for field in dataclasses.fields(recipe.Rules)}
    return [
        f"recipe {of.name!r}: Rules.{name} = {value!r} is used by nothing: no parameter has the axis {name!r}, "
        f"they have {', '.join(sorted(used))}"
        for name, value in dataclasses.asdict(of.rules).items()
        if value is not None and value != fields[name] and name not in used
    ]


def table(of: recipe.Recipe, devices: int) -> list[str]:
    """Every parameter's logical axes, spec and bytes a device, as text, stage by stage.

    Raises:
      recipe.Mistake: the rules conflict or don't divide.
    """
    shape = mesh.sizes(of.mesh, devices)
    text: list[str] = []
    for stage in of.stages:
        leaves = stage.model.abstract()
        rows = [_row(path, leaf, of.rules, shape) for path, leaf in leaves.items()]
        whole = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves.values())
        local = sum(size for *_, size in rows)
        text.append(f"  stage {stage.name}, mesh {shape}: {local:,} of {whole:,} bytes of parameters a device")
        text += _columns([(*row[:-1], f"{row[-1]:,}") for row in rows])
    return text


def _row(path: str, leaf: Any, rules: recipe.Rules, shape: Mapping[str, int]) -> tuple[str, str, str, str, int]:
    spec = mesh.spec(path, leaf, rules, shape)
    parts = math.prod(shape[axis] for axis in spec if axis is not None)
    size = leaf.size * leaf.dtype.itemsize // parts
    split = ", ".join(axis or "-" for axis in spec) or "whole"
    return path, "x".join(str(side) for side in leaf.shape), ", ".join(leaf.axes), split, size


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(cell) for cell in column) for column in zip(*rows)]
    return ["    " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
