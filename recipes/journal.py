"""What a stage writes about itself while it runs: metrics.jsonl, TensorBoard events, lines on the terminal."""

import json
import os
import time
from collections.abc import Mapping

import jax
import rich.console
from etils import epath


class Journal:
    """Metrics of one stage, as they come; only the first process writes. Use it as a context."""

    def __init__(self, directory: str | os.PathLike[str], stage: str, console: rich.console.Console):
        """Opens the files of `directory` for appending."""
        self._stage, self._console = stage, console
        self._writes = jax.process_index() == 0
        self._path = epath.Path(directory) / "metrics.jsonl"
        self._events = _Events(epath.Path(directory)) if self._writes else None

    def __enter__(self) -> "Journal":
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the files."""
        if self._events is not None:
            self._events.close()

    def resume(self, step: int) -> None:
        """Forgets the lines after `step`, which a resumed run writes again."""
        if not self._writes or not self._path.exists():
            return
        lines = [line for line in self._path.read_text().splitlines() if _step(line) is not None]
        kept = [line for line in lines if (_step(line) or 0) <= step]
        temporary = self._path.parent / "metrics.jsonl.tmp"
        temporary.write_text("".join(line + "\n" for line in kept))
        temporary.replace(self._path)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """One line of figures at `step`."""
        if self._events is None:
            return
        with self._path.open("a") as file:
            file.write(json.dumps({"step": step, "time": round(time.time(), 3), **values}) + "\n")
        self._events.write(step, values)

    def report(self, step: int, of: int, values: Mapping[str, float]) -> None:
        """The figures of `step`, written, and shown but for those of the blend's parts."""
        self.write(step, values)
        shown = {name: value for name, value in values.items() if "loss/" not in name}
        self.say(f"step {step}/{of}  " + "  ".join(f"{name} {value:.4g}" for name, value in shown.items()))

    def say(self, text: str) -> None:
        """A line on the terminal."""
        if self._writes:
            self._console.print(f"[bold]{self._stage}[/]: {text}", highlight=False, soft_wrap=True)


class _Events:
    """A TensorBoard event file, written without TensorFlow."""

    def __init__(self, directory: epath.Path):
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer import record_writer

        self._event, self._summary = event_pb2.Event, summary_pb2.Summary  # pyright: ignore[reportAttributeAccessIssue]
        self._file = (directory / f"events.out.tfevents.{int(time.time())}.{os.getpid()}.baton").open("wb")
        self._records = record_writer.RecordWriter(self._file)
        self._records.write(self._event(wall_time=time.time(), file_version="brain.Event:2").SerializeToString())

    def write(self, step: int, values: Mapping[str, float]) -> None:
        found = [self._summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        event = self._event(wall_time=time.time(), step=step, summary=self._summary(value=found))
        self._records.write(event.SerializeToString())
        self._records.flush()

    def close(self) -> None:
        self._records.close()


def _step(line: str) -> int | None:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return None  # a line cut short by a kill


def read(directory: str | os.PathLike[str]) -> list[dict[str, float]]:
    """The lines of a stage's metrics.jsonl; a line cut short by a kill is left out."""
    path = epath.Path(directory) / "metrics.jsonl"
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if _step(line) is not None]
