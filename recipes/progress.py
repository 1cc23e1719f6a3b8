"""Progress of long work: a bar on a terminal, now and then a plain line elsewhere."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import rich.console
import rich.progress

LINE_EVERY = 10.0


def console() -> rich.console.Console:
    """The terminal; where there is none, lines of 120 characters."""
    found = rich.console.Console()
    return found if found.is_terminal else rich.console.Console(width=120)


@contextlib.contextmanager
def bar(console: rich.console.Console, name: str, total: int, done: int = 0) -> Iterator[Callable[[int, str], None]]:
    """A function of (done so far, a few words) that moves a bar named `name`; off a terminal it shows nothing."""
    if not console.is_terminal:
        yield lambda done, words: None
        return
    columns = (
        rich.progress.TextColumn("[bold]{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TimeRemainingColumn(),
        rich.progress.TextColumn("{task.fields[words]}"),
    )
    with rich.progress.Progress(*columns, console=console, transient=True) as shown:
        task = shown.add_task(name, total=total, completed=done, words="")
        yield lambda done, words: shown.update(task, completed=done, words=words)


@contextlib.contextmanager
def of_store(console: rich.console.Console) -> Iterator[Callable[[Any], None]]:
    """What `tokenize.build` reports to: a bar for each part on a terminal, else a line every ten seconds and a part."""
    if not console.is_terminal:
        last: dict[str, float] = {}

        def line(told: Any) -> None:
            now = time.monotonic()
            if told.state in ("done", "kept") or now - last.setdefault(told.part, now) > LINE_EVERY:
                last[told.part] = now
                counts = f"{told.share:.0%}, {told.documents:,} documents, {told.tokens:,} tokens"
                console.print(f"store: {told.part} {told.state}, {counts}", highlight=False)

        yield line
        return
    with rich.progress.Progress(*rich.progress.Progress.get_default_columns(), console=console) as shown:
        tasks: dict[str, Any] = {}

        def move(told: Any) -> None:
            if told.part not in tasks:
                tasks[told.part] = shown.add_task(told.part, total=1.0)
            shown.update(tasks[told.part], completed=told.share, description=f"{told.part} ({told.state})")

        yield move
