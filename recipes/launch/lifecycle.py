"""One submission from the first question to the last deletion."""

import contextlib
import dataclasses
import shlex
import signal
import time
import types
from collections.abc import Callable, Iterator

from recipes import recipe
from recipes.launch import gcloud, package, record, scripts, workers
from recipes.launch.job import Job, Patience
from recipes.launch.workers import Ended

_GONE = ("FAILED", "SUSPENDING", "SUSPENDED")
_SCARCE = ("no more capacity", "RESOURCE_EXHAUSTED", "nsufficient", "UNAVAILABLE", "INTERNAL")
MISSES = 3
"""So many looks in a row that don't reach every worker, and the missing ones are lost."""


class Submission:
    """Creates a TPU, runs a job on it until it is done, begins again where that helps, and deletes what it made."""

    def __init__(
        self, job: Job, packed: package.Package, known: record.Record, patience: Patience, say: Callable[[str], None]
    ):
        self.job, self.packed, self.known, self.patience, self.say = job, packed, known, patience, say
        self.cloud = known.cloud
        self.workers = workers.Workers(self.cloud, job.name, known.id)
        self.made = False
        self.heeds = True  # whether a signal interrupts what is being done

    def words(self) -> list[list[str]]:
        """Every command of a submission that nothing interrupts, in order."""
        name, id, cloud = self.job.name, self.known.id, self.cloud
        install = scripts.install(id, self.packed.locked("uv"), self.packed.locked("jax"))
        waits = [cloud.describe(name, request=True)] if cloud.queued else []
        return [
            cloud.describe(name),
            cloud.create(name, self.job.on.type, self.job.runtime, self.job.spot, id),
            *waits,
            cloud.describe(name),
            cloud.scp(scripts.archive(id), name, scripts.archive(id)),
            cloud.ssh(name, install),
            cloud.ssh(name, scripts.start(id, self.job.run())),
            cloud.ssh(name, scripts.look(id)),
            cloud.ssh(name, scripts.log(id, 0), 0),
            cloud.delete(name),
        ]

    def run(self) -> Ended:
        """Runs the job and returns how it ended; nothing that it made is left.

        Raises:
          recipe.Mistake: the name is taken.
        """
        if self.cloud.node(self.job.name) or (self.cloud.queued and self.cloud.request(self.job.name)):
            raise recipe.Mistake(
                f"{self.job.name!r} exists in {self.cloud.zone} already: give another --tpu, or see "
                f"`baton submit status {self.job.name}`"
            )
        self.known.save()
        with self._signals():
            try:
                ended = self._attempts()
            except KeyboardInterrupt:
                ended = Ended(code=recipe.PREEMPTED, line="stopped; the same command goes on from what was saved")
                self._save()
            finally:
                self.heeds = False
                left = self.clean()
                self.known.forget()
        return left or ended

    def clean(self) -> Ended | None:
        """Deletes what this submission made; how it ended when that can't be done, and what is left to do by hand."""
        if not self.made:
            return None
        error = None
        for seconds in (self.patience.poll, 2 * self.patience.poll, 0):
            try:
                if self._mine():
                    self.cloud.run(self.cloud.delete(self.job.name), 900)
                    self.say(f"deleted {self.job.name}")
                self.made = False
                return None
            except gcloud.Failed as failed:
                error = failed
                time.sleep(seconds)
        by_hand = shlex.join(self.cloud.delete(self.job.name))
        return Ended(code=1, line=f"{self.job.name} could not be deleted ({error}); run: {by_hand}")

    def _attempts(self) -> Ended:
        waited = 0
        for attempt in range(self.job.retries + 1):
            began = time.monotonic()
            ended = self._attempt()
            if not ended.again:
                return ended
            if self._stopping():
                return Ended(code=recipe.PREEMPTED, line="stopped by `baton submit stop`")
            if attempt == self.job.retries:
                return dataclasses.replace(ended, line=f"{ended.line}, and all {attempt} retries are used")
            waited = 1 if time.monotonic() - began > self.patience.longest else waited + 1
            seconds = self.patience.wait(waited)
            self.say(f"{ended.line}; retry {attempt + 1} of {self.job.retries} in {seconds:.0f} s")
            time.sleep(seconds)
        raise AssertionError("the last attempt returns")

    def _attempt(self) -> Ended:
        """Makes the TPU ready, unless it still is, and runs the job once."""
        ready = False
        try:
            if not (self.made and self._ready()):
                left = self.clean()
                if left:
                    return left
                self._create()
                ready = True
                self.say(f"installing on {self.job.on.hosts} workers")
                self.workers.install(self.packed, self.patience.install)
            ready = True
            self.workers.start(self.job.run())
            self.say("running; what follows is the log of worker 0")
            return self._watch()
        except gcloud.Failed as error:
            # Before it was ready, only a full zone is worth another try; after that, only the loss of the TPU.
            scarce = "uota" not in error.said and any(word in error.said for word in _SCARCE)
            return Ended(code=1, line=str(error), again=self._vanished() if ready else scarce)

    def _create(self) -> None:
        job, began = self.job, time.monotonic()
        kind = f"{job.on.type}, {job.on.hosts} workers{', spot' if job.spot else ''}"
        self.say(f"{'queueing for' if self.cloud.queued else 'creating'} {job.name} ({kind}) in {self.cloud.zone}")
        self.made = True  # before it is: an interrupted request may be granted
        words = self.cloud.create(job.name, job.on.type, job.runtime, job.spot, self.known.id)
        self.cloud.run(words, self.patience.create)
        while not self._ready():
            request = self.cloud.request(job.name) if self.cloud.queued else None
            state = (request or {}).get("state", {}).get("state")
            if state in _GONE:
                raise gcloud.Failed(f"the queued resource {job.name} is {state}", 1, "UNAVAILABLE")
            if time.monotonic() - began > self.patience.create:
                raise gcloud.Failed(f"{job.name} was not ready after {self.patience.create:.0f} s", None)
            time.sleep(self.patience.poll)
        self.say(f"ready after {time.monotonic() - began:.0f} s")

    def _watch(self) -> Ended:
        """Follows the run until every worker has ended, or the TPU has."""
        misses, first = 0, None
        while True:
            time.sleep(self.patience.poll)
            try:
                self.workers.relay()
                states = self.workers.look()
            except gcloud.Failed:
                states = []
            missing = self.job.on.hosts - len(states)
            misses = misses + 1 if missing > 0 else 0
            if misses and self._vanished():
                return Ended(code=recipe.PREEMPTED, line=f"{self.job.name} was preempted", again=True)
            if misses >= MISSES:
                return self.workers.judge([*states, *[workers.LOST] * missing])
            if misses:
                continue
            if workers.RUNNING not in states:
                with contextlib.suppress(gcloud.Failed):
                    self.workers.relay()
                return self.workers.judge(states)
            if any(state != workers.RUNNING for state in states):
                first = first or time.monotonic()
                if time.monotonic() - first > self.patience.settle:
                    self.workers.stop(self.patience.grace)

    def _save(self) -> None:
        """Before it is deleted, lets a run save what it has; a second Ctrl-C ends that."""
        if not self.made or self._stopping():
            return
        with contextlib.suppress(gcloud.Failed, KeyboardInterrupt):
            self.heeds = True
            if self._ready():
                self.say(f"stopping: the run has {self.patience.grace} s to save")
                self.workers.stop(self.patience.grace)
                self.workers.relay()

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Inside, SIGINT, SIGTERM and SIGHUP (not under nohup) interrupt once, and then wait for what is deleted."""

        def handle(number: int, frame: types.FrameType | None) -> None:
            if not self.heeds:
                self.say("deleting what was made; a moment")
                return
            self.heeds = False
            raise KeyboardInterrupt

        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        if before[signal.SIGHUP] == signal.SIG_IGN:
            del before[signal.SIGHUP]
        for number in before:
            signal.signal(number, handle)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _ready(self) -> bool:
        node = self.cloud.node(self.job.name)
        return node is not None and node.get("state") == "READY" and gcloud.label(node) == self.known.id

    def _vanished(self) -> bool:
        try:
            return not self._ready()
        except gcloud.Failed:
            return False

    def _mine(self) -> bool:
        """Whether there is something of this submission to delete; a request under way may show up a little later."""
        for seconds in (self.patience.poll, 0):
            found = self.cloud.request(self.job.name) if self.cloud.queued else self.cloud.node(self.job.name)
            if found is not None:
                return gcloud.label(found) == self.known.id
            time.sleep(seconds)
        return False

    def _stopping(self) -> bool:
        known = record.load(self.job.name)
        return known is None or known.id != self.known.id or known.stopping
