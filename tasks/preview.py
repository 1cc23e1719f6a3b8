"""What a data set feeds, for a person: decoded rows with what was hidden in them, and the figures that matter.

`render` writes to a terminal, `html` makes one page without outside parts. Both take a `Blend`, `Examples` or
`Streamed`; `find` makes one of a store's directory or a SeqIO mixture's name.
"""

from typing import Any

from rich import console as consoles
from rich import table as tables
from rich import text as texts

from tasks import blend, card, marks, objectives, page, survey

_STYLES = {
    "text": "",
    "prefix": "dim",
    "sentinel": "bold cyan",
    "mask": "bold magenta",
    "random": "bold red",
    "kept": "green underline",
    "mode": "bold yellow",
    "doc": "bold yellow",
    "end": "dim",
    "label": "bold blue",
    "border": "reverse dim",
}
_BAR = 40


def find(
    name: str,
    *,
    inputs: int = 512,
    targets: int = 114,
    objective: objectives.Objective | None = None,
    split: str = "train",
    modules: tuple[str, ...] = (),
) -> Any:
    """Returns the data set that a name stands for.

    Args:
        name: the directory of a token store, or a SeqIO task or mixture.
        inputs: length of a row's inputs.
        targets: length of a row's targets.
        objective: for a store; T5's span corruption by default.
        split: 'train', ...
        modules: to import first, because they register the mixture.

    Raises:
        ValueError: neither a store nor a mixture; the message has the nearest names.
    """
    if card.read(name) is not None:
        goal = objective or objectives.SpanCorruption()
        return blend.Blend(store=name, objective=goal, inputs=inputs, targets=targets, split=split)
    from tasks import provider, stream, streamed

    found = provider.open(name, modules)
    provider.split(found, split)
    form, targets = stream.guess(found, inputs=inputs, targets=targets, split=split)
    return streamed.Streamed(mixture=name, inputs=inputs, targets=targets, form=form, split=split, modules=modules)


def render(data: Any, rows: int, console: consoles.Console) -> None:
    """Writes the first rows and the figures to a console.

    Args:
        data: a `Blend`, `Examples` or `Streamed`.
        rows: how many rows to show.
        console: where to.

    Raises:
        ValueError: the data set's first problem.
    """
    found = survey.take(data, rows=max(256, rows))
    for row in range(rows):
        console.rule(f"row {row} · {found.parts[int(found.batch['part'][row])]}", align="left")
        for side, made in marks.sides(found, row).items():
            console.print(_line(side, made), soft_wrap=True)
    console.rule("figures", align="left")
    figures = tables.Table(box=None, show_header=False)
    for name, value in found.figures().items():
        figures.add_row(name, page.number(name, value))
    console.print(figures)
    blend_table = tables.Table("part", "rows", "share of tokens", "tokens in the store", box=None)
    for part, count, share, stored in found.composition():
        blend_table.add_row(part, str(count), f"{share:.1%}", "" if stored is None else f"{stored:,}")
    console.print(blend_table)
    for side, bins in found.histograms().items():
        console.rule(f"length of a piece, {side}", align="left")
        most = max((count for *_, count in bins), default=1)
        for low, high, count in bins:
            console.print(f"{low:>6} – {high:<6} {count:>6} {'█' * round(_BAR * count / most)}")


def html(data: Any, rows: int) -> str:
    """Returns the same as one HTML page without outside parts.

    Args:
        data: a `Blend`, `Examples` or `Streamed`.
        rows: how many rows to show.

    Raises:
        ValueError: the data set's first problem.
    """
    return page.page(survey.take(data, rows=max(256, rows)), rows)


def _line(side: str, made: list[marks.Mark]) -> texts.Text:
    line = texts.Text(f"{side:<8}", style="bold")
    for mark in made:
        text = f" {mark.text}▸" if mark.style == "border" else mark.text
        if mark.note:
            text = f"{text}→{mark.note.strip()}"
        line.append(text, style=_STYLES[mark.style] or "not bold")
    return line
