"""Files in the manner of CoNLL: a word a line with its tag in the last column, a blank line after each sentence.

Columns are parted by tabs or, in a line without any, by spaces. Before a sentence's first word, a line that begins with
'#' and has no tab is a comment; '# intent = X' gives the sentence a class.
"""

from collections.abc import Iterator, Sequence

from tasks import files, records

UNSPACED = ("ja", "th", "zh")
"""Languages that write no space between words."""

_DOCSTART = "-DOCSTART-"


def spaced(language: str) -> bool:
    """Returns whether a language, 'de' or 'zh-Hans', writes spaces between words."""
    return language.replace("_", "-").split("-")[0].lower() not in UNSPACED


def tagged(patterns: Sequence[str], language: str) -> Iterator[tuple[records.Tagged, str]]:
    """Yields the sentences, and 'file:line' of their first words.

    Args:
        patterns: paths or globs.
        language: of the text.

    Raises:
        ValueError: a file cannot be read, or a line has no tag.
    """
    for words, tags, where, _ in _sentences(patterns):
        yield records.Tagged(words=words, tags=tags, spaced=spaced(language)), where


def intents(patterns: Sequence[str], language: str) -> Iterator[tuple[records.Labelled, str]]:
    """Yields the sentences with the class that '# intent = X' above them names.

    Args:
        patterns: paths or globs.
        language: of the text.

    Raises:
        ValueError: as `tagged`; or a sentence has no such line.
    """
    for words, _, where, intent in _sentences(patterns):
        if not intent:
            raise ValueError(f"{where} begins a sentence without a line '# intent = ...' above it: add one")
        text = (" " if spaced(language) else "").join(words)
        yield records.Labelled(texts=(("text", text),), label=intent), where


def _sentences(patterns: Sequence[str]) -> Iterator[tuple[list[str], list[str], str, str]]:
    words: list[str] = []
    tags: list[str] = []
    first, intent, before = "", "", ("", 0)
    for line, where, _ in files.Files(tuple(patterns)).lines():
        path, _, number = where.rpartition(":")
        # Blank lines are not given: they show as gaps in the numbers.
        if words and before != (path, int(number) - 1):
            yield words, tags, first, intent
            words, tags, intent = [], [], ""
        before = path, int(number)
        cells = line.split("\t") if "\t" in line else line.split()
        if not words and line.startswith("#") and "\t" not in line:
            name, _, value = line[1:].partition("=")
            intent = value.strip() if name.strip() == "intent" else intent
            continue
        if cells[0] == _DOCSTART:
            continue
        if len(cells) < 2 or not cells[0].strip() or not cells[-1].strip():
            raise ValueError(f"{where} is not a word and its tag, parted by a tab: mend the line")
        if not words:
            first = where
        words.append(cells[0])
        tags.append(cells[-1])
    if words:
        yield words, tags, first, intent
