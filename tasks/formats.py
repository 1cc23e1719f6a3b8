"""Files of a downstream task in one of the formats that are known."""

import dataclasses
from collections.abc import Iterator, Mapping

from tasks import conll, questions, records, rows

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "labels": ("text", "label"),
    "pairs": ("source", "target"),
    "aligned": ("text",),
}
"""Formats of tables, and the columns that they have unless others are named."""

KINDS: Mapping[str, str] = {
    "conll": "words",
    "intents": "class",
    "labels": "class",
    "squad": "span",
    "pairs": "text",
    "aligned": "text",
}
"""Formats and the kind of task they hold: a label for each word, a class, a passage of the context, a text."""

_NEEDED = {"labels": {"label"}, "pairs": {"source", "target"}, "aligned": {"text"}}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """The files of one split.

    Attributes:
        format: 'conll', words with tags; 'intents', the same with a class above each sentence; 'labels', texts with a
            class; 'squad', questions with a context; 'pairs', a text for a text; 'aligned', two files of translations.
        files: paths or globs, plain or gzipped.
        columns: of a table, see tasks/rows.py; () for those in `COLUMNS`.
        skip: lines at the head of each file of a table.
        language: of the text; some write no spaces.
        only: of JSON lines of questions, those with this 'split'.
    """

    format: str
    files: tuple[str, ...]
    columns: tuple[str, ...] = ()
    skip: int = 0
    language: str = "en"
    only: str = ""

    def __post_init__(self):
        """Refuses formats that are none, and columns that the format cannot use."""
        if self.format not in KINDS:
            raise ValueError(f"format {self.format!r} is none of {', '.join(KINDS)}")
        roles = {column.partition("=")[0] for column in self.columns}
        if self.columns and self.format not in COLUMNS:
            raise ValueError(f"format {self.format!r} takes no columns: leave {self.columns} out")
        if self.columns and not _NEEDED[self.format] <= roles:
            needed = " and ".join(sorted(_NEEDED[self.format]))
            raise ValueError(f"columns {self.columns} of format {self.format!r} lack {needed}: name the column(s) so")

    def read(self) -> Iterator[tuple[records.Record, str]]:
        """Yields the examples, and where each is, for messages.

        Raises:
            ValueError: a file cannot be read or is not of this format.
        """
        columns = self.columns or COLUMNS.get(self.format, ())
        if self.format == "conll":
            return conll.tagged(self.files, self.language)
        if self.format == "intents":
            return conll.intents(self.files, self.language)
        if self.format == "squad":
            return questions.read(self.files, only=self.only)
        if self.format == "labels":
            return rows.labelled(self.files, columns, skip=self.skip)
        if self.format == "pairs":
            return rows.pairs(self.files, columns, skip=self.skip)
        return rows.aligned(self.files, columns, skip=self.skip)
