"""Running a recipe: every stage in order, each from disk, resumed by the same command."""

import contextlib
import json
import signal
import types
from collections.abc import Iterator
from typing import Any

import jax
import rich.console
from etils import epath

from models import kernels
from recipes import config, loop, mesh, plan, recipe


def run(
    resolved: config.Resolved,
    workdir: str,
    *,
    until: str | None = None,
    allow_config_change: bool = False,
    console: rich.console.Console | None = None,
) -> dict[str, dict[str, Any]]:
    """Runs or resumes a recipe in `workdir` and returns what each stage's `done` file says, by stage.

    Args:
      resolved: the recipe, as recipes/config.py loads it.
      workdir: a directory, local or gs://; one recipe has one work directory.
      until: stop after this stage.
      allow_config_change: go on although the recipe isn't the one that the directory was begun with.
      console: where lines of progress go.

    Raises:
      recipe.Mistake: the plan has a problem; nothing has been allocated or written.
      recipe.Preempted: told to stop by SIGTERM or SIGINT, and saved.
    """
    console = console or rich.console.Console()
    of: recipe.Recipe = resolved.value
    if until is not None:
        of.stage(until)
    folder = epath.Path(workdir)
    _refuse_another(resolved, folder, allow_config_change)
    for problem in plan.make(of, data=True).problems:
        raise recipe.Mistake(problem)
    for stage in of.stages:
        for problem in kernels.foreign(stage.model.stacks, jax.default_backend()):
            raise recipe.Mistake(f"recipe {of.name!r}, stage {stage.name!r}: {problem}")
    folder.mkdir(parents=True, exist_ok=True)
    if jax.process_index() == 0:
        (folder / "recipe.gin").write_text(resolved.text)
    over = mesh.build(of.mesh)
    finished: dict[str, dict[str, Any]] = {}
    with _told_to_stop() as stopping:
        for stage in of.stages:
            finished[stage.name] = done(folder / stage.name) or loop.train(
                stage, resolved, folder, over, console, stopping
            )
            if stage.name == until:
                break
    return finished


def done(stage: epath.Path) -> dict[str, Any] | None:
    """What a stage's `done` file says, or None while it isn't done."""
    file = stage / "done"
    return json.loads(file.read_text()) if file.exists() else None


def _refuse_another(resolved: config.Resolved, folder: epath.Path, allowed: bool) -> None:
    """Raises Mistake when the work directory was begun with another recipe, naming the first line that differs."""
    file = folder / "recipe.gin"
    if allowed or not file.exists():
        return
    before, now = file.read_text().splitlines(), resolved.text.splitlines()
    if before == now:
        return
    old = next((line for line in before if line.strip() and line not in now), "(nothing)")
    new = next((line for line in now if line.strip() and line not in before), "(nothing)")
    raise recipe.Mistake(
        f"recipe {resolved.value.name!r}: {folder} was begun with {old!r} where the recipe now has {new!r}; "
        "take another --workdir, undo the change, or give --allow-config-change"
    )


@contextlib.contextmanager
def _told_to_stop() -> Iterator[Any]:
    """A function that says whether SIGTERM or SIGINT has come; a second SIGINT ends the program at once."""
    told: list[int] = []

    def note(number: int, frame: types.FrameType | None) -> None:
        if told and number == signal.SIGINT:
            raise KeyboardInterrupt
        told.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: bool(told)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
