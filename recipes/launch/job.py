"""What is submitted: a recipe with its settings, a slice to run it on, and patience."""

import dataclasses
import re

from recipes import recipe
from recipes.launch import slices


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """A recipe on a slice.

    Attributes:
      name: of the TPU.
      on: the slice.
      runtime: the image of its VMs.
      spot: whether it may be preempted, at a lower price.
      recipe: the recipe, as a worker finds it.
      workdir: gs://, or an absolute path that every worker mounts and that outlives them.
      overlays: gin files on top, as a worker finds them.
      sets: bindings on top.
      imports: modules of the user's.
      retries: how often it begins again after a preemption or a lost worker.
    """

    name: str
    on: slices.Slice
    runtime: str
    spot: bool
    recipe: str
    workdir: str
    overlays: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()
    retries: int = 20

    def __post_init__(self):
        """Refuses names that Cloud TPU would, and a work directory that a preemption would take along."""
        if not re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", self.name):
            raise recipe.Mistake(f"--tpu {self.name!r}: a name has a-z, 0-9 and '-' alone and begins with a letter")
        if not self.workdir.startswith(("gs://", "/")):
            raise recipe.Mistake(
                f"--workdir {self.workdir!r} would be lost with the TPU's disk: give gs://BUCKET/FOLDER, or an "
                "absolute path of a disk that every worker mounts"
            )

    @property
    def flags(self) -> list[str]:
        """The recipe and its settings, as `baton plan` and `baton run` take them."""
        flags = [self.recipe]
        for flag, values in (("overlay", self.overlays), ("set", self.sets), ("import", self.imports)):
            flags += [f"--{flag}={value}" for value in values]
        return flags

    def run(self, python: str = ".venv/bin/python") -> list[str]:
        """The words of `baton run` on a worker."""
        several = ["--distributed=auto"] if self.on.hosts > 1 else []
        return [python, "-m", "recipes.cli", "run", *self.flags, f"--workdir={self.workdir}", *several]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Patience:
    """How long to wait for what, in seconds.

    Attributes:
      create: for the TPU.
      install: for the installation on all workers.
      poll: between two looks at the workers.
      settle: for the other workers, once one has ended.
      grace: for a run that is told to stop, so that it can save.
      backoff: before the first new beginning; each further one waits twice as long.
      longest: at most so long; an attempt that lived longer lets the back-off begin anew.
    """

    create: float = 3600
    install: float = 1800
    poll: float = 15
    settle: float = 120
    grace: int = 60
    backoff: float = 30
    longest: float = 1800

    def wait(self, attempt: int) -> float:
        """Seconds before the new beginning number `attempt`, counted from 1."""
        return min(self.longest, self.backoff * 2 ** min(attempt - 1, 30))
