"""What is wrong with a recipe as far as its own values tell. Imports the standard library alone."""

import dataclasses
import pathlib
import re
from typing import Any

from recipes import paths, recipe


def find(of: recipe.Recipe) -> list[str]:
    """What is wrong with the recipe as far as its own values tell, one line each."""
    found: list[str] = []
    if not re.fullmatch(r"[\w.-]+", of.name):
        found.append(f"recipe {of.name!r}: a name has letters, digits, '_', '-' and '.' alone")
    if not of.stages:
        found.append(f"recipe {of.name!r} has no stages: bind Recipe.stages = (@a/recipe.Stage(), ...)")
    earlier: list[str] = []
    for stage in of.stages:
        found += [f"recipe {of.name!r}, stage {stage.name!r}: {line}" for line in _stage_problems(stage, earlier)]
        earlier.append(stage.name)
    axes = dataclasses.asdict(of.mesh)
    if any(size < 1 and size != -1 for size in axes.values()) or list(axes.values()).count(-1) > 1:
        found.append(f"recipe {of.name!r}: mesh {axes}: each axis is a count of devices, at most one of them is -1")
    for name, cheap, dear in of.compare:
        for final in (*cheap, *dear):
            if final not in earlier:
                found.append(
                    f"recipe {of.name!r}: compare {name!r} names no stage {final!r}{paths.nearest(final, earlier)}"
                )
    return found


def _stage_problems(stage: recipe.Stage, earlier: list[str]) -> list[str]:
    found: list[str] = []
    if not re.fullmatch(r"[\w.-]+", stage.name):
        found.append("a name has letters, digits, '_', '-' and '.' alone, since it names a folder")
    if stage.name in earlier:
        found.append("an earlier stage has the same name; give each its own")
    counts = {"steps": stage.steps, "batch": stage.batch, "accumulate": stage.accumulate, "log_every": stage.log_every}
    counts |= {"max_skipped": stage.max_skipped, "save.keep": stage.save.keep}
    for name, value in counts.items():
        if value < 1:
            found.append(f"{name} = {value}; it is at least 1")
    if stage.accumulate >= 1 and stage.batch % stage.accumulate:
        found.append(f"batch {stage.batch} doesn't divide into accumulate = {stage.accumulate} equal parts")
    if stage.save.steps is not None and stage.save.steps < 1:
        found.append(f"save.steps = {stage.save.steps}; it is at least 1, or None to save by time alone")
    for evaluate in stage.evaluate:
        found += _evaluation_problems(stage, evaluate)
    names = [evaluate.name for evaluate in stage.evaluate]
    if len(set(names)) < len(names):
        found.append(f"two evaluations have one name among {names}")
    if stage.best is not None:
        periodic = [evaluate.name for evaluate in stage.evaluate if evaluate.every]
        if stage.best.figure.split("/")[0] not in periodic:
            found.append(
                f"best.figure = {stage.best.figure!r} is of no evaluation that has `every`, which are {periodic}"
            )
        if stage.best.patience is not None and stage.best.patience < 1:
            found.append(f"best.patience = {stage.best.patience}; it is at least 1, or None to run to the end")
    if stage.start is not None:
        found += _handoff_problems(stage.start, earlier)
    return found


def _evaluation_problems(stage: recipe.Stage, evaluate: recipe.Evaluate) -> list[str]:
    data = stage.data if evaluate.data is None else evaluate.data
    where, found = f"evaluation {evaluate.name!r}", []
    if evaluate.batches is None and not data.finite:
        found.append(f"{where} has batches = None, and {type(data).__name__} has no end; give a number of batches")
    if evaluate.score is not None and evaluate.score.whole and evaluate.batches is not None:
        needs = f"{type(evaluate.score).__name__} needs every example once"
        found.append(f"{where} scores {evaluate.batches} batches and {needs}; set its batches = None")
    return found


def _handoff_problems(handoff: recipe.Handoff, earlier: list[str]) -> list[str]:
    found: list[str] = []
    if recipe.is_directory(handoff.source):
        if "://" not in handoff.source and not (pathlib.Path(handoff.source) / "checkpoints").is_dir():
            found.append(f"starts from {handoff.source!r}, where there is no stage; name WORKDIR/STAGE of a run")
    elif handoff.source not in earlier:
        found.append(
            f"starts from {handoff.source!r}, which is no earlier stage{paths.nearest(handoff.source, earlier)}"
        )
    for item in handoff.carry:
        if item not in recipe.CARRIED:
            found.append(f"carries {item!r}{paths.nearest(item, recipe.CARRIED)}")
    for rule in handoff.take:
        if not isinstance(rule, recipe.Take) and not _is_pair(rule):
            found.append(f"take has {rule!r}; each rule is a pair (target pattern, source template) or a Take")
    return found


def _is_pair(rule: Any) -> bool:
    parts: list[Any] = list(rule) if isinstance(rule, tuple) else []  # pyright: ignore[reportUnknownArgumentType]
    return [type(part) for part in parts] == [str, str]
