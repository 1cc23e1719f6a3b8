"""A handoff offline: from one stage's checkpoint to the beginning of another, leaf by leaf."""

from typing import Any

import jax
import numpy as np
from etils import epath

from recipes import checkpoint, config, handoff, leafwise, lineage, paths, recipe

SHIPPED = "handoffs"


def convert(
    source: str,
    target: str,
    *,
    by: str | None = None,
    of: str | None = None,
    stage: str | None = None,
    dry: bool = False,
) -> handoff.Plan:
    """Hands the newest checkpoint of the stage at `source` over to a new stage directory `target`.

    Args:
      source: WORKDIR/STAGE.
      target: WORKDIR/STAGE to be made; it must not hold a checkpoint.
      by: a shipped handoff's name or a gin file that binds a `Handoff`; None takes the start of `stage`.
      of: the recipe whose `stage` is the target; None makes what the handoff takes, under the names it gives.
      stage: the target's stage in that recipe.
      dry: plan only; nothing is written.

    Raises:
      recipe.Mistake: the plan has problems, or one of the places isn't what it should be. Nothing is written.
    """
    manifest = checkpoint.manifest(source)
    root = epath.Path(source) / "checkpoints" / str(manifest["step"])
    there = checkpoint.abstract(root)
    whole = _recipe(of, stage)
    goal = whole.value.stage(stage) if whole else None
    rules = _rules(by, goal)
    leaves = goal.model.abstract() if goal else derived(rules, there)
    plan = handoff.plan(rules, handoff.offered(there, manifest["model"].get("sums", {})), leaves)
    for problem in plan.problems:
        raise recipe.Mistake(f"{source} to {target}: {problem}")
    if dry:
        return plan
    if checkpoint.steps(epath.Path(target) / "checkpoints"):
        raise recipe.Mistake(f"{target} already holds a checkpoint; name another target or remove it")
    if (fault := checkpoint.damage(root)) is not None:
        raise recipe.Mistake(f"{root} is damaged: {fault}")
    with leafwise.Writer(target, 0, _manifest(manifest, plan, source, target) | _identity(whole, goal)) as writer:

        def put(path: str, array: np.ndarray) -> None:
            writer.put(path, np.asarray(array, leaves[path].dtype))

        def read(path: str) -> np.ndarray:
            return np.asarray(checkpoint.read(root, {path: there[path]})[path])

        handoff.execute(plan, read, put)
        if plan.fresh:
            assert goal is not None
            for entry in plan.fresh:
                put(entry.target, _fresh(goal, entry.target))
    return plan


def derived(rules: recipe.Handoff, source: Any) -> dict[str, Any]:
    """The target that a handoff without fresh parameters makes by itself: each source leaf not dropped, under its name.

    Raises:
      recipe.Mistake: the handoff needs to know the target's model.
    """
    if rules.fresh or any(take.by is not None or take.source != r"\g<0>" for take in rules.takes):
        raise recipe.Mistake(
            "this handoff makes parameters that the source has not: "
            "name the target's model with --recipe FILE --stage NAME"
        )
    kept = {path: leaf for path, leaf in source.items() if not any(paths.matches(drop, path) for drop in rules.drop)}
    return {path: leaf for path, leaf in kept.items() if any(paths.matches(take.target, path) for take in rules.takes)}


def _recipe(of: str | None, stage: str | None) -> config.Resolved | None:
    if (of is None) != (stage is None):
        raise recipe.Mistake("--recipe and --stage go together: the target is one stage of a recipe")
    return None if of is None else config.load(of)


def _rules(by: str | None, goal: recipe.Stage | None) -> recipe.Handoff:
    if by is not None:
        names = {path.stem: path for path in config.shipped(SHIPPED)}
        if by not in names and not by.endswith(".gin"):
            raise recipe.Mistake(f"no handoff {by!r}{paths.nearest(by, names)}")
        path = names.get(by, by)
        name = by if by in names else None
        return config.load(path, [f"{name}/Handoff.source = ''"] if name else [], of=recipe.Handoff, scope=name).value
    if goal is None or goal.start is None:
        raise recipe.Mistake(
            "no handoff: give --handoff NAME|FILE.gin, or --recipe and --stage of a stage that has a start"
        )
    return goal.start


def _fresh(goal: recipe.Stage, path: str) -> np.ndarray:
    """The initial value of one parameter; XLA makes no other."""
    return np.asarray(jax.jit(lambda key: goal.model.init(key)[path])(jax.random.key(goal.seed)))


def _identity(whole: config.Resolved | None, goal: recipe.Stage | None) -> dict[str, Any]:
    """What the manifest says of the target's model: the recipe and stage that it was made for; nothing without them."""
    if whole is None or goal is None:
        return {"gin": {"hash": "", "text": ""}}
    return {
        "recipe": whole.value.name,
        "stage": goal.name,
        "model": lineage.model(goal),
        "gin": {"hash": whole.hash, "text": whole.text},
    }


def _manifest(source: Any, plan: handoff.Plan, where: str, target: str) -> dict[str, Any]:
    parent = {"directory": where, "step": source["step"], "params_digest": source["params_digest"]}
    return source | {
        "stage": epath.Path(target).name,
        "step": 0,
        "steps": 0,
        "clock": source["clock"] + source["step"],
        "start": {"origin": "handoff", "parent": parent, "handoff": plan.json()["parameters"]},
        "lineage": lineage.descent(source),
        "spent": dict.fromkeys(source["spent"], 0),
        "skipped": 0,
        "streak": 0,
        "best": None,
        "params_digest": None,
        "versions": lineage.versions(),
        "commit": lineage.commit(),
    }
