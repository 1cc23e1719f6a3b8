"""A recipe's plan on slices of TPUs: every stage compiled for each, as fields of the plan, problems and text."""

from collections.abc import Callable, Sequence
from typing import Any

from recipes import chips, compiled, recipe
from recipes import topology as topologies


def fits(resolved: Any, topology: str) -> list[str]:
    """Why a resolved recipe (`config.load`) can't train on the slice so named, one line each; compiles every stage."""
    found = of_stages(resolved.value, [topologies.parse(topology)])
    return problems(resolved.value, found)


def of_stages(
    of: recipe.Recipe, slices: Sequence[topologies.Topology], say: Callable[[str], None] = lambda line: None
) -> list[dict[str, Any]]:
    """The fields of each stage on each slice, with its `name`; a slice that can't be laid out has `problem` instead."""
    found: list[dict[str, Any]] = []
    for topology in slices:
        topologies.describe(topology)
        for stage in of.stages:
            say(f"plan: compiling stage {stage.name} for {topology.name}")
            try:
                found.append({"name": stage.name, **compiled.measure(of, stage, topology)})
            except recipe.Mistake as mistake:
                found.append({"name": stage.name, "topology": topology.name, "problem": str(mistake)})
    return found


def problems(of: recipe.Recipe, found: Sequence[dict[str, Any]]) -> list[str]:
    """One line for each stage that a slice can't train."""
    lines: list[str] = []
    for one in found:
        where = f"recipe {of.name!r}, stage {one['name']!r} on {one['topology']}: "
        if "problem" in one:
            lines.append(where + one["problem"])
        elif not one["fits"]:
            lines.append(where + short(of, of.stage(one["name"]), one))
    return lines


def short(of: recipe.Recipe, stage: recipe.Stage, one: dict[str, Any]) -> str:
    """By how much a stage doesn't fit, and what would make it fit."""
    state = sum(one["bytes"].values()) / chips.GIB
    text = (
        f"needs {one['hbm_gib']:.2f} GiB a device and there are {one['hbm_limit_gib']:.2f}, "
        f"{one['over_gib']:.2f} too few; "
    )
    if state > one["hbm_limit_gib"]:
        return text + (
            f"parameters, optimizer and gradients alone take {state:.2f}: split them over more devices "
            "(Mesh.fsdp, Mesh.tensor), or take a larger slice"
        )
    ways = []
    if any(stack.remat != "full" for stack in stage.model.stacks.values()):
        ways.append("Stack.remat = 'full'")
    if one["mesh"]["data"] > 1:
        ways.append("Mesh.fsdp in place of Mesh.data")
    ways.append(f"{stage.name}/Stage.accumulate = {2 * stage.accumulate}")
    return text + f"try {' or '.join(ways)}, or `--fit`"


def lines(of: recipe.Recipe, found: Sequence[dict[str, Any]]) -> list[str]:
    """What was found, as text."""
    text: list[str] = []
    for one in found:
        if "problem" in one:
            continue
        text += _stage(one)
    for name in dict.fromkeys(one["topology"] for one in found):
        ours = [one for one in found if one["topology"] == name]
        if all(one.get("fits") for one in ours):
            days, hours = (sum(one[key] for one in ours) for key in ("days", "chip_hours"))
            text.append(f"  {name}, all stages: at least {days:.3g} days, {hours:,.0f} chip-hours")
    return text


def _stage(one: dict[str, Any]) -> list[str]:
    gib = {name: size / chips.GIB for name, size in one["bytes"].items()}
    split = ", ".join(f"{axis} {size}" for axis, size in one["mesh"].items())
    head = f"  stage {one['name']} on {one['topology']} ({one['chips']} chips; {split}), a device:"
    rest = f"compiled in {one['compile_seconds']:.0f} s ({one['compile_cpu_seconds']:.0f} s of processor)"
    state = f"parameters {gib['params']:.2f}, optimizer {gib['opt_state']:.2f}, gradients {gib['gradients']:.2f}"
    if not one["fits"]:
        return [head, f"    {one['hbm_gib']:.2f} GiB of {one['hbm_limit_gib']:.2f}: doesn't fit; {state}; {rest}"]
    memory = {name: size / chips.GIB for name, size in one["memory"].items()}
    free = one["hbm_limit_gib"] - one["hbm_gib"]
    sent = ", ".join(f"{name} {size / chips.GIB:.2f}" for name, size in one["collective_bytes"].items()) or "none"
    sides = ", ".join(f"{name} {1e3 * seconds:.1f}" for name, seconds in one["sides"].items() if seconds)
    again = one["program_flops"] / one["model_flops"]
    text = [
        head,
        f"    {one['hbm_gib']:.2f} GiB of {one['hbm_limit_gib']:.2f}, {free:.2f} free: {state}; arguments "
        f"{memory['arguments']:.2f}, temporaries {memory['temporaries']:.2f} (gradients among them); {rest}",
        f"    {one['model_flops']:.4g} model FLOPs a step over all; the program's products are {again:.2f} of them "
        f"(XLA, every loop once, a device: {one['xla_flops_once']:.4g})",
        f"    {one['hbm_traffic'] / chips.GIB:.2f} GiB of memory traffic; collectives, GiB: {sent}",
        f"    at least {1e3 * one['step_seconds']:.1f} ms a step, bound by {one['bound']} (ms: {sides}): MFU at most "
        f"{one['mfu']:.0%}; {one['days']:.3g} days, {one['chip_hours']:,.0f} chip-hours",
    ]
    return text + [f"    not counted: {line}" for line in one["uncounted"]]
