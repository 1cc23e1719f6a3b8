"""Processes that spell slices of text. They import no TensorFlow, and end with the process that started them."""

import concurrent.futures
import concurrent.futures.process
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator

from tasks import chunks, encoder, holdout, sources

Work = tuple[int, sources.Slice]


class Workers:
    """Some processes, or this one alone, that turn slices into chunks."""

    def __init__(self, spelling: encoder.Encoder, processes: int):
        """Starts nothing yet; processes start with the first work there is for them.

        Args:
            spelling: the vocabulary, sent to every process once.
            processes: how many; 1 works in this process.
        """
        self._spelling = spelling
        self._processes = processes
        self._pool: concurrent.futures.ProcessPoolExecutor | None = None

    def __enter__(self) -> "Workers":
        """Returns itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the processes."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def run(
        self, work: Iterable[Work], into: chunks.Chunks, held: holdout.Holdout
    ) -> Iterator[tuple[int, sources.Slice, chunks.Chunk]]:
        """Makes a chunk of each numbered slice and yields them as they are finished, in any order.

        At most two slices a process are held at a time, so that a fast source does not fill the memory.

        Raises:
            ValueError: a process died.
        """
        if self._processes <= 1:
            for number, part in work:
                yield number, part, into.make(number, part, self._spelling, held)
            return
        if self._pool is None:
            # Spawned, not forked: a fork would carry this process's threads' locks, TensorFlow's say, in their state.
            context = multiprocessing.get_context("spawn")
            self._pool = concurrent.futures.ProcessPoolExecutor(
                self._processes, mp_context=context, initializer=_start, initargs=(self._spelling,)
            )
        waiting: dict[concurrent.futures.Future[chunks.Chunk], Work] = {}
        try:
            for number, part in work:
                waiting[self._pool.submit(_make, number, part, into, held)] = number, part
                if len(waiting) >= 2 * self._processes:
                    yield from _finished(waiting)
            while waiting:
                yield from _finished(waiting)
        except concurrent.futures.process.BrokenProcessPool:
            raise ValueError(
                f"one of {self._processes} processes was killed while it spelt text, for lack of memory perhaps: "
                "run the same command again, it goes on from there, with fewer processes if need be"
            ) from None


def cores() -> int:
    """Returns how many cores this process may use."""
    # macOS cannot tell.
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _finished(
    waiting: dict[concurrent.futures.Future[chunks.Chunk], Work],
) -> Iterator[tuple[int, sources.Slice, chunks.Chunk]]:
    done, _ = concurrent.futures.wait(waiting, return_when=concurrent.futures.FIRST_COMPLETED)
    for future in done:
        number, part = waiting.pop(future)
        yield number, part, future.result()


_spelling: encoder.Encoder | None = None


def _start(spelling: encoder.Encoder) -> None:
    global _spelling
    _spelling = spelling
    # Ctrl-C reaches the whole group; the process that started us decides what to do about it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # One thread each: the processes share the cores already.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    threading.Thread(target=_follow, daemon=True).start()


def _follow() -> None:
    """Ends this process when its parent is gone: a killed parent cannot say so, and the queue stays open."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _make(number: int, part: sources.Slice, into: chunks.Chunks, held: holdout.Holdout) -> chunks.Chunk:
    assert _spelling is not None
    return into.make(number, part, _spelling, held)
