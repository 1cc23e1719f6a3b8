"""What the processes of a run decide together. With one process each of these is the plain thing itself.

`first` lets process 0 look or write, and tells all; `check` finds a mistake on any process and raises it on all;
`Wishes` spreads what a process wishes (to stop, to save) without a wait for the device. All of them are collectives:
every process calls them, in the same order.
"""

import collections
import json
import socket
import time
import uuid
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from etils import epath
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec

from recipes import mesh, recipe

_VISIBLE_WITHIN = 15.0
"""Seconds after which a file that one host wrote is seen by the others; network file systems cache names."""


def first(make: Callable[[], Any]) -> Any:
    """What `make` returns on process 0, a JSON value, on every process; also a Mistake that it raises."""
    if jax.process_count() == 1:
        return make()
    told = _attempt(make) if jax.process_index() == 0 else {}
    text = json.dumps(told, default=float).encode()
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(text))))
    told = _read(multihost_utils.broadcast_one_to_all(_padded(text if jax.process_index() == 0 else b"", size)))
    if "mistake" in told:
        raise recipe.Mistake(told["mistake"])
    return told["value"]


def everyone(value: Any) -> list[Any]:
    """The JSON value of each process, by process."""
    if jax.process_count() == 1:
        return [value]
    text = json.dumps(value, default=float).encode()
    size = int(np.max(multihost_utils.process_allgather(np.int32(len(text)))))
    return [_read(row) for row in multihost_utils.process_allgather(_padded(text, size))]


def check(find: Callable[[], str | None]) -> None:
    """Raises on every process the Mistake of the first process on which `find` returns, or raises, a problem."""
    if jax.process_count() == 1:
        problem = find()
        if problem:
            raise recipe.Mistake(problem)
        return
    found = _attempt(find)
    problems = everyone(found.get("mistake") or found["value"])
    for process, problem in enumerate(problems):
        if problem:
            everywhere = all(each == problem for each in problems)
            where = "" if everywhere else f"process {process} of {len(problems)}: "
            raise recipe.Mistake(where + problem)


def same(name: str, mine: dict[str, str]) -> None:
    """Raises Mistake when a process has other values than process 0, naming the first line that differs."""
    theirs = first(lambda: mine)

    def differs() -> str | None:
        for key, value in mine.items():
            if value != theirs[key]:
                own, other = _difference(value, theirs[key])
                return (
                    f"{name}: {key} has {own!r} here and {other!r} on process 0; "
                    "run the same command, with the same files and packages, on every host"
                )
        return None

    check(differs)


def shared(folder: epath.Path) -> None:
    """Raises Mistake unless every process sees in `folder` what process 0 writes there."""
    if jax.process_count() == 1:
        return
    mark = folder / first(lambda: f".seen-by-all-{uuid.uuid4().hex}")
    first(mark.touch)

    def unseen() -> str | None:
        until = time.monotonic() + _VISIBLE_WITHIN
        while not mark.exists():
            if time.monotonic() > until:
                return (
                    f"{folder} on host {socket.gethostname()} isn't the one that process 0 writes to; "
                    "give a --workdir that all hosts share, as gs://BUCKET/RUN"
                )
            time.sleep(0.5)
        return None

    try:
        check(unseen)
    finally:
        first(mark.unlink)


class Wishes:
    """What any process wishes, known to all of them one call later."""

    def __init__(self, over: jax.sharding.Mesh):
        """`over` are the devices of all processes."""
        self._each = NamedSharding(over, PartitionSpec(over.axis_names))
        self._rows = len(over.local_devices)
        self._any = jax.jit(lambda told: told.max(axis=0), out_shardings=mesh.whole(over))
        self._asked: collections.deque[jax.Array] = collections.deque()

    def __call__(self, *wishes: bool) -> tuple[bool, ...]:
        """Which wishes any process had at the call before; alone, the wishes themselves.

        Called after each step's dispatch it waits for the step before, as the loop does anyway to read its figures.
        """
        if jax.process_count() == 1:
            return wishes
        told = np.tile(np.asarray(wishes, np.int32), (self._rows, 1))
        self._asked.append(self._any(jax.make_array_from_process_local_data(self._each, told)))
        if len(self._asked) == 1:
            return (False,) * len(wishes)
        return tuple(bool(wish) for wish in np.asarray(self._asked.popleft()))

    def forget(self) -> None:
        """Drops what is under way, since it has been met."""
        self._asked.clear()


def whole(value: Any) -> np.ndarray:
    """All of an array, though its parts lie with several processes; a collective for such an array."""
    if isinstance(value, jax.Array) and not value.is_fully_addressable:
        return multihost_utils.process_allgather(value, tiled=True)
    return np.asarray(value)


def _attempt(make: Callable[[], Any]) -> dict[str, Any]:
    try:
        return {"value": make()}
    except (ValueError, FileNotFoundError, PermissionError) as mistake:
        return {"mistake": str(mistake)}


def _difference(mine: str, theirs: str) -> tuple[str, str]:
    own, other = mine.splitlines(), theirs.splitlines()
    return (
        next((line for line in own if line.strip() and line not in other), "(nothing)"),
        next((line for line in other if line.strip() and line not in own), "(nothing)"),
    )


def _padded(text: bytes, size: int) -> np.ndarray:
    """As bytes of a length that is a power of two, so that few lengths are ever compiled for; JSON ends in spaces."""
    padded = np.full(1 << max(size - 1, 1023).bit_length(), ord(" "), np.uint8)
    padded[: len(text)] = np.frombuffer(text, np.uint8)
    return padded


def _read(row: Any) -> Any:
    return json.loads(np.asarray(row).tobytes())
