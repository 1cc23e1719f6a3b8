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
from recipes import agree, config, hosts, lineage, loop, mesh, plan, recipe


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
      recipe.Preempted: told to stop by SIGTERM or SIGINT, this process or another of the run, and saved.
      recipe.Lost: another process of the run has died.
    """
    with hosts.losing():
        return _run(resolved, workdir, until, allow_config_change, console)


def _run(
    resolved: config.Resolved,
    workdir: str,
    until: str | None,
    allow_config_change: bool,
    console: rich.console.Console | None,
) -> dict[str, dict[str, Any]]:
    console = console or rich.console.Console()
    of: recipe.Recipe = resolved.value
    hosts.require_joined()
    flags = f"--until {until} --allow-config-change {allow_config_change}"
    here = {"the recipe": resolved.text, "the command": flags, "the environment": _environment()}
    agree.same(f"recipe {of.name!r}", here)
    if until is not None:
        of.stage(until)
    folder = epath.Path(workdir)
    agree.first(lambda: _refuse_another(resolved, folder, allow_config_change))
    agree.check(lambda: next(iter(plan.make(of, data=True).problems), None) or _foreign_kernel(of))
    agree.first(lambda: _begin(folder, resolved))
    agree.shared(folder)
    over = mesh.build(of.mesh)
    finished: dict[str, dict[str, Any]] = {}
    with _told_to_stop() as stopping:
        for stage in of.stages:
            ended = agree.first(lambda stage=stage: done(folder / stage.name))
            finished[stage.name] = ended or loop.train(stage, resolved, folder, over, console, stopping)
            if stage.name == until:
                break
    return finished


def done(stage: epath.Path) -> dict[str, Any] | None:
    """What a stage's `done` file says, or None while it isn't done."""
    file = stage / "done"
    return json.loads(file.read_text()) if file.exists() else None


def _environment() -> str:
    """What decides beside the recipe what a process computes, a line each."""
    return "\n".join([f"commit {lineage.commit()}", *(f"{name} {text}" for name, text in lineage.versions().items())])


def _foreign_kernel(of: recipe.Recipe) -> str | None:
    """The first kernel of a recipe that this program's devices can't run."""
    for stage in of.stages:
        for problem in kernels.foreign(stage.model.stacks, jax.default_backend()):
            return f"recipe {of.name!r}, stage {stage.name!r}: {problem}"
    return None


def _begin(folder: epath.Path, resolved: config.Resolved) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.gin").write_text(resolved.text)


def _refuse_another(resolved: config.Resolved, folder: epath.Path, allowed: bool) -> None:
    """Raises Mistake when the work directory was begun with another recipe, naming the first line that differs.

    What counts is the recipe that the older text builds today: a field that is new since then has its default.
    """
    file = folder / "recipe.gin"
    if allowed or not file.exists():
        return
    text = file.read_text()
    with contextlib.suppress(recipe.Mistake):
        if text == resolved.text or config.parse(text, str(file)).value == resolved.value:
            return
    before, now = text.splitlines(), resolved.text.splitlines()
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
