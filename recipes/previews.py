"""What `baton preview` shows: the data of a recipe's stage, of a token store, or of any SeqIO task or mixture."""

import pathlib
import re
from collections.abc import Sequence
from typing import Any

import rich.console

from recipes import config
from tasks import preview, quiet


def show(
    name: str,
    *,
    rows: int,
    html: str | None,
    console: rich.console.Console,
    overlays: Sequence[str] = (),
    overrides: Sequence[str] = (),
    modules: Sequence[str] = (),
    inputs: int = 512,
    targets: int = 114,
) -> None:
    """Prints the first `rows` rows and the figures of a data set, or writes them to the page `html`.

    Args:
      name: RECIPE.gin:STAGE, the directory of a token store, or a SeqIO task or mixture.
      rows: how many rows to show.
      html: a file to write instead.
      console: where lines go.
      overlays: gin files on top of the recipe.
      overrides: bindings on top of the recipe.
      modules: that register the mixture; imported already.
      inputs: length of a row's inputs, where no recipe says.
      targets: length of a row's targets, where no recipe says.

    Raises:
      ValueError: no such data, or it has a problem.
    """
    data = _data(name, overlays, overrides, modules, inputs, targets)
    if html is None:
        preview.render(data, rows, console)
        return
    pathlib.Path(html).write_text(preview.html(data, rows))
    console.print(f"preview: wrote {html}", highlight=False)


def _data(
    name: str, overlays: Sequence[str], overrides: Sequence[str], modules: Sequence[str], inputs: int, targets: int
) -> Any:
    staged = re.fullmatch(r"(.+\.gin):([\w.-]+)", name)
    if staged:
        return config.load(staged[1], overrides, overlays=overlays).value.stage(staged[2]).data
    if not pathlib.Path(name).is_dir():
        quiet.load("seqio")
    return preview.find(name, inputs=inputs, targets=targets, modules=tuple(modules))
