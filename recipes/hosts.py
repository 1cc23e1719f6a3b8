"""Joining the other processes of a run under `jax.distributed`, and ending with them.

A run on several hosts is the same command on each: one process a host, all of whose devices form one mesh. The
processes tell each other that they live. When one dies, all end: by the error of a collective, which is made one line
here, or, where the collective waits for ever, by JAX's coordination service after `HEARTBEAT` seconds, which aborts the
process from a thread of its own. What is said then comes from a small shell that waits for our end (`_LastWords`).
"""

import contextlib
import dataclasses
import os
import re
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Mapping

import jax

from recipes import recipe

HEARTBEAT = 30
"""Seconds without a sign of life after which a process counts as dead."""
_AT_EXIT = 30
"""Seconds that a process which ends waits for the others to end."""
_GONE = re.compile(r"Gloo|NCCL|coordination service|CoordinationService|UNAVAILABLE|DEADLINE_EXCEEDED|Barrier")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
    """This process's place in a run; without a coordinator JAX asks the cluster (TPU pod, Slurm, MPI, Kubernetes).

    Attributes:
      coordinator: HOST:PORT of process 0, where the processes meet.
      processes: how many there are.
      process: which one this is, from 0.
      seconds: how long to wait for the others.
    """

    coordinator: str | None = None
    processes: int | None = None
    process: int | None = None
    seconds: int = 300

    @property
    def name(self) -> str:
        """What messages call this process."""
        return "this process" if self.process is None else f"process {self.process} of {self.processes}"


def place(
    coordinator: str | None,
    processes: int | None,
    process: int | None,
    *,
    seconds: int,
    environment: Mapping[str, str] = os.environ,
) -> Place | None:
    """The place that flags, or else JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID, name; None if none.

    Raises:
      recipe.Mistake: some of the three are given, and not all; or they don't fit each other.
    """
    words = {"JAX_COORDINATOR_ADDRESS": coordinator, "JAX_NUM_PROCESSES": processes, "JAX_PROCESS_ID": process}
    given = {name: environment.get(name) if flag is None else str(flag) for name, flag in words.items()}
    if all(value is None for value in given.values()):
        return None
    flags = dict(zip(given, ("--coordinator", "--processes", "--process")))
    for name, value in given.items():
        if value is None or (name != "JAX_COORDINATOR_ADDRESS" and not value.isdigit()):
            raise recipe.Mistake(
                f"{flags[name]} (or {name}) is {value!r}: a run on several hosts needs --coordinator HOST:PORT, "
                "--processes N and --process I on each of them"
            )
    address, many, own = (str(value) for value in given.values())
    if not re.fullmatch(r"\S+:\d+", address):
        raise recipe.Mistake(f"--coordinator {address!r} is no HOST:PORT, as 10.0.0.1:8476")
    if int(own) >= int(many):
        raise recipe.Mistake(f"--process {own} of --processes {many}: processes count from 0 to {int(many) - 1}")
    return Place(coordinator=address, processes=int(many), process=int(own), seconds=seconds)


@contextlib.contextmanager
def joined(at: Place | None) -> Iterator[None]:
    """Inside, this process is one of a run's; it must begin before anything uses a device. None is a run of its own.

    A Mistake and a Preempted come out on every process alike and pass; after any other error the program ends here,
    since the others can't be waited for.
    """
    if at is None:
        yield
        return
    words = _LastWords()
    _connect(at, words)
    name = f"process {jax.process_index()} of {jax.process_count()}"
    words.leave(
        f"baton: {name} ended early: it was killed, or stopped because another process died (the lines above say "
        "which); the same command on every host goes on from the last checkpoint"
    )
    try:
        if at.processes is not None and jax.process_count() != at.processes:
            raise recipe.Mistake(
                f"--processes {at.processes}, and the devices are of {jax.process_count()}: "
                f"JAX's backend {jax.default_backend()!r} doesn't join processes"
            )
        yield
    except (recipe.Mistake, recipe.Preempted):
        words.leave("")
        raise
    except recipe.Lost as lost:
        words.leave("")
        _end(f"baton: {name}: {lost}", recipe.LOST)
    except BaseException:
        words.leave("")
        traceback.print_exc()
        _end(f"baton: {name} failed, as told above; the other processes will end too", 1)
    words.leave("")


@contextlib.contextmanager
def losing() -> Iterator[None]:
    """Inside, an error that tells of another process's end is a `recipe.Lost`."""
    try:
        yield
    except recipe.Mistake:
        raise
    except (RuntimeError, ValueError) as error:  # JAX raises both for a collective that failed
        if not jax.distributed.is_initialized() or not _GONE.search(str(error)):
            raise
        reason = " ".join(str(error).split())[:200]
        raise recipe.Lost(
            "another process of this run has died or can't be reached; the same command on every host goes on from "
            f"the last checkpoint ({reason})"
        ) from error


def require_joined() -> None:
    """Raises Mistake on a TPU pod whose processes weren't told to join."""
    if jax.process_count() > 1 and not jax.distributed.is_initialized():
        raise recipe.Mistake(
            f"this is host {jax.process_index()} of {jax.process_count()} and the run isn't a joint one: "
            "give --distributed auto on every host"
        )


def _connect(at: Place, words: "_LastWords") -> None:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # JAX's own preemption service would take SIGTERM from recipes/run.py, whose agreement also knows SIGINT.
    jax.config.update("jax_enable_preemption_service", False)
    missing = f"baton: {at.name}: not all processes came within {at.seconds} seconds"
    words.leave(f"{missing}; start the same command on every host")
    try:
        if at.process:
            _await(at)
        jax.distributed.initialize(
            at.coordinator,
            at.processes,
            at.process,
            cluster_detection_method=None if at.coordinator is None else "deactivate",
            initialization_timeout=at.seconds,
            heartbeat_timeout_seconds=HEARTBEAT,
            shutdown_timeout_seconds=_AT_EXIT,
        )
    except (RuntimeError, ValueError) as error:
        words.leave("")
        if isinstance(error, recipe.Mistake):
            raise
        where = "--distributed auto" if at.coordinator is None else f"--coordinator {at.coordinator}"
        reason = " ".join(str(error).split())[:200]
        raise recipe.Mistake(
            f"{at.name} can't join by {where}: {reason}; where JAX knows no cluster, give --coordinator HOST:PORT with "
            "a free port of process 0's host, --processes N and --process I"
        ) from error


def _await(at: Place) -> None:
    """Returns when process 0 listens; raises Mistake when it doesn't in time, where JAX itself would abort."""
    host, _, port = str(at.coordinator).rpartition(":")
    until = time.monotonic() + at.seconds
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() > until:
                raise recipe.Mistake(
                    f"{at.name}: nothing answers at --coordinator {at.coordinator} within {at.seconds} seconds "
                    f"({error}); start process 0 there, and let the hosts reach that port"
                ) from error
        time.sleep(0.2)


def _end(line: str, code: int) -> None:
    """Ends the program at once: JAX's own way out waits for the processes that are no more."""
    print(line, file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(code)


class _LastWords:
    """A shell that prints a line when this process has ended, whatever ended it; the last line left is printed."""

    def __init__(self):
        """Starts it, out of reach of a terminal's signals."""
        told = 'while read -r line; do last=$line; done; [ -z "$last" ] || echo "$last" >&2'
        self._shell = subprocess.Popen(["sh", "-c", told], stdin=subprocess.PIPE, start_new_session=True, text=True)

    def leave(self, line: str) -> None:
        """Leaves `line`, in place of the one before; an empty one prints nothing."""
        assert self._shell.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._shell.stdin.write(f"{line}\n")
            self._shell.stdin.flush()
