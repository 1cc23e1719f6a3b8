"""The plan, before anything is paid for: a recipe with problems, or that doesn't fit, is refused."""

import importlib.util
import json
import pathlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from recipes import recipe
from recipes.launch.job import Job


def check(job: Job, root: pathlib.Path, fit: bool, say: Callable[[str], None]) -> None:
    """Plans the job for its slice, in a process of its own, as planning imports JAX.

    Args:
      job: what is to run.
      root: the checkout to plan in.
      fit: also compile every stage for the slice, where there is a TPU compiler.
      say: tells what could not be checked.

    Raises:
      recipe.Mistake: the first problem, or how much memory is missing where.
    """
    planned, error = plan(job, root, f"--devices={job.on.chips}")
    if planned is None:
        raise recipe.Mistake(error)
    if planned.get("problems"):
        raise recipe.Mistake(planned["problems"][0])
    for stage in planned["stages"]:
        reads = {"learns from": stage.get("store"), "starts from": stage.get("handoff", {}).get("source")}
        for does, path in reads.items():
            if path and (does == "learns from" or recipe.is_directory(path)) and not path.startswith(("gs://", "/")):
                raise recipe.Mistake(
                    f"stage {stage['name']!r} {does} {path!r}, a folder of this machine; workers read "
                    "gs://BUCKET/FOLDER, or an absolute path of a disk that they mount"
                )
    _check_fit(job, root, fit, say)


def plan(job: Job, root: pathlib.Path, *flags: str) -> tuple[dict[str, Any] | None, str]:
    """`baton plan --json` with these flags: what it printed, or None and why."""
    words = [sys.executable, "-m", "recipes.cli", "plan", *job.flags, "--json", *flags]
    done = subprocess.run(words, cwd=root, capture_output=True, text=True)
    try:
        return json.loads(done.stdout), ""
    except ValueError:
        lines = done.stderr.strip().splitlines() or [f"baton plan ended with exit code {done.returncode}"]
        return None, lines[-1].removeprefix("baton: ")


def _check_fit(job: Job, root: pathlib.Path, fit: bool, say: Callable[[str], None]) -> None:
    if not fit or importlib.util.find_spec("libtpu") is None:
        say(
            "memory isn't checked: " + ("--no-fit is given" if not fit else "libtpu, the TPU compiler, isn't installed")
        )
        return
    topology = f"{job.on.generation}:{job.on.topology}"
    planned, error = plan(job, root, f"--topology={topology}")
    if planned is None and "unrecognized arguments" in error:
        say("memory isn't checked: `baton plan` has no --topology")
        return
    if planned is None:
        raise recipe.Mistake(f"for {topology}: {error}")
    for stage in planned.get("stages", ()):
        if stage.get("fits") is False:
            raise recipe.Mistake(
                f"stage {stage['name']!r} needs {stage['hbm_gib']:.1f} GiB a chip and {job.on.type} ({topology}) has "
                f"{stage['hbm_limit_gib']:.1f}: take a larger --type, or what "
                f"`baton plan --topology={topology} --fit` finds"
            )
    if planned.get("problems"):
        raise recipe.Mistake(planned["problems"][0])
