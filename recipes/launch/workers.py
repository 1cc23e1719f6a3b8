"""The workers of one TPU: install, start, look, read the log, stop."""

import collections
import dataclasses
import pathlib
import sys
import tempfile
from collections.abc import Sequence

from recipes import recipe
from recipes.launch import gcloud, package, scripts

RUNNING, LOST = "running", None
"""A worker's state is one of these, or its run's exit code."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ended:
    """How an attempt ended.

    Attributes:
      code: the exit code that this gives the submission.
      line: what to say of it.
      again: whether a new beginning may help.
    """

    code: int
    line: str
    again: bool = False


class Workers:
    """All workers of a TPU that belongs to submission `id`."""

    def __init__(self, cloud: gcloud.Gcloud, name: str, id: str):
        self.cloud, self.name, self.id = cloud, name, id
        self.offset = 0
        self.tail: collections.deque[str] = collections.deque(maxlen=50)

    def install(self, packed: package.Package, timeout: float) -> None:
        """Copies the package to every worker and installs it; what was read of an older log is forgotten."""
        self.offset = 0
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder) / scripts.archive(self.id)
            packed.write(file)
            self.cloud.run(self.cloud.scp(str(file), self.name, scripts.archive(self.id)), timeout)
        script = scripts.install(self.id, packed.locked("uv"), packed.locked("jax"))
        self.cloud.run(self.cloud.ssh(self.name, script), timeout)

    def start(self, words: Sequence[str]) -> None:
        """Starts the run on every worker, detached."""
        self.cloud.run(self.cloud.ssh(self.name, scripts.start(self.id, words)), 300)

    def look(self) -> list[str | int | None]:
        """One state a worker that answers: RUNNING, LOST, or an exit code."""
        said = self.cloud.run(self.cloud.ssh(self.name, scripts.look(self.id)), 300).decode(errors="replace")
        lines = [line.split() for line in said.splitlines() if line.startswith("baton-worker ")]
        return [
            int(words[3]) if words[2] == "exited" else RUNNING if words[2] == "running" else LOST for words in lines
        ]

    def relay(self) -> None:
        """Prints what worker 0's log has gained."""
        new = self.cloud.run(self.cloud.ssh(self.name, scripts.log(self.id, self.offset), 0), 300)
        self.offset += len(new)
        text = new.decode(errors="replace")
        self.tail.extend(text.splitlines())
        sys.stdout.write(text)
        sys.stdout.flush()

    def stop(self, grace: int) -> None:
        """Tells every run to save and stop, and kills what is left after `grace` seconds."""
        self.cloud.run(self.cloud.ssh(self.name, scripts.stop(self.id, grace)), grace + 120)

    def judge(self, states: Sequence[str | int | None]) -> Ended:
        """What the states of all workers mean together, none of which runs: the worst cause decides."""
        said = next((line for line in reversed(self.tail) if line.startswith("baton: ")), "").removeprefix("baton: ")
        codes = [state for state in states if isinstance(state, int)]
        if recipe.MISTAKE in codes:
            return Ended(code=recipe.MISTAKE, line=f"the run refused to begin: {said or 'see its log above'}")
        if LOST in states:
            return Ended(code=1, line=f"{list(states).count(LOST)} of {len(states)} workers were lost", again=True)
        killed = [code for code in codes if code >= 128]
        failed = [code for code in codes if 0 < code < 128 and code not in (recipe.LOST, recipe.PREEMPTED)]
        if failed:
            return Ended(code=1, line=f"the run failed (exit code {failed[0]}): {said or 'see its log above'}")
        if killed:
            return Ended(code=1, line=f"a worker was killed (exit code {killed[0]})", again=True)
        if recipe.LOST in codes:
            return Ended(code=1, line="the workers lost each other", again=True)
        if recipe.PREEMPTED in codes:
            return Ended(code=recipe.PREEMPTED, line="the run was told to stop, and saved", again=True)
        return Ended(code=0, line="the run is done")
