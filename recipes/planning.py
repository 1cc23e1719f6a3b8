"""What `baton plan` prints, of a recipe here or on slices of TPUs that aren't at hand."""

import dataclasses
import json as json_
import sys
from collections.abc import Sequence

import jax

from recipes import plan, recipe
from recipes import sharding as shardings


def without_accelerator() -> None:
    """Plans for slices are made on the CPU: no accelerator is claimed or looked for."""
    jax.config.update("jax_platforms", "cpu")


def here(of: recipe.Recipe, devices: int | None, *, full: bool, json: bool, sharding: bool) -> int:
    """Prints the plan for `devices`, or as many as the mesh says; returns the exit code."""
    planned = plan.make(of, devices=devices)
    if json:
        print(json_.dumps(planned.json(), indent=1))
    else:
        print("\n".join(plan.lines(planned, full=full)))
        if sharding and not planned.problems:
            _show_sharding(of, plan.how_many(of.mesh, devices))
    return recipe.MISTAKE if planned.problems else 0


def slices(of: recipe.Recipe, names: Sequence[str], *, search: bool, json: bool, sharding: bool) -> int:
    """Compiles every stage for the slices of `names`, each one or several with commas between, and prints the plan.

    With `search`, the fastest setting that fits is looked for and proposed. Returns the exit code.
    """
    from recipes import fit, sliceplan, topology

    wanted = [topology.parse(name) for one in names for name in one.split(",")]
    planned = plan.make(of, devices=wanted[0].devices)
    if search:
        planned = _unsplit(of, planned)
    if planned.problems:
        print("\n".join(plan.lines(planned)))
        return recipe.MISTAKE
    found, proposals, problems = [], [], []
    if search:
        for slice_, stage in [(one, stage) for one in wanted for stage in of.stages]:
            setting, figures = fit.search(of, stage, slice_, _say)
            if setting is None:
                problems.append(fit.refusal(of, stage, slice_))
            else:
                proposals.append(f"  {fit.proposal(stage, slice_, setting)}")
                found.append(figures)
    else:
        found = sliceplan.of_stages(of, wanted, _say)
        problems = sliceplan.problems(of, found)
    if json:
        stages = {stage["name"]: stage for stage in planned.stages}
        merged = [stages[one["name"]] | one for one in found]
        print(json_.dumps(planned.json() | {"stages": merged, "problems": problems}, indent=1))
        return recipe.MISTAKE if problems else 0
    print("\n".join([*plan.lines(planned)[:-1], *sliceplan.lines(of, found), *proposals]))
    if sharding:
        _show_sharding(of, wanted[0].devices // wanted[0].slices)
    print("\n".join([f"  problem: {line}" for line in problems] or ["  no problems found"]))
    return recipe.MISTAKE if problems else 0


def _unsplit(of: recipe.Recipe, planned: plan.Planned) -> plan.Planned:
    """The plan with the problems that no other mesh mends; that of the smallest mesh where its own can't be planned."""
    sequence = max(of.mesh.sequence, 1)
    small = dataclasses.replace(of, mesh=recipe.Mesh(data=1, sequence=sequence))
    least = plan.make(small, devices=sequence)
    whole = len(planned.stages) == len(of.stages)
    return dataclasses.replace(planned if whole else least, problems=least.problems)


def _show_sharding(of: recipe.Recipe, devices: int) -> None:
    print("\n".join(shardings.table(of, devices)))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
