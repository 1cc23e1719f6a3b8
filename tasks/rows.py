"""Tables with one example a line: columns parted by tabs, or JSON objects. Plain or gzipped.

Columns have roles. In a table of tabs they go by position, `('_', 'label', 'text')`, and '_' is a column that is not
read. In JSON lines a role is a key, or `'role=key'`; a list under a key stands for several columns of that role.
"""

import json
from collections.abc import Iterator, Sequence

from tasks import files, records

SKIPPED = "_"
Row = list[tuple[str, str]]


def read(patterns: Sequence[str], columns: Sequence[str], *, skip: int = 0) -> Iterator[tuple[Row, str]]:
    """Yields the (role, text) pairs of each line that is not blank, and 'file:line' for messages.

    Args:
        patterns: paths or globs; names with '.json' hold JSON lines, others columns parted by tabs.
        columns: their roles.
        skip: so many lines at the head of each file.

    Raises:
        ValueError: a file cannot be read, or a line has not these columns.
    """
    for path in files.Files(tuple(patterns)).paths():
        parse = _object if ".json" in path.rsplit("/", 1)[-1] else _cells
        for line, where, _ in files.Files(path).lines():
            if int(where.rpartition(":")[2]) > skip:
                yield parse(line, where, columns), where


def labelled(patterns: Sequence[str], columns: Sequence[str], *, skip: int) -> Iterator[tuple[records.Labelled, str]]:
    """Yields rows with the role 'label'; the other roles are its texts.

    Raises:
        ValueError: as `read`; or a text is blank.
    """
    for row, where in read(patterns, columns, skip=skip):
        texts = [(role, text) for role, text in row if role != "label"]
        yield records.Labelled(texts=texts, label=dict(row)["label"]), where


def pairs(patterns: Sequence[str], columns: Sequence[str], *, skip: int) -> Iterator[tuple[records.Pair, str]]:
    """Yields rows with the roles 'source' and 'target'; of several targets, blank ones are left out.

    Raises:
        ValueError: as `read`; or no target has text.
    """
    for row, where in read(patterns, columns, skip=skip):
        targets = [text for role, text in row if role == "target" and text.strip()]
        if not targets:
            raise ValueError(f"{where} has no target: every line needs one, remove it or correct the columns")
        yield records.Pair(source=dict(row)["source"], targets=targets), where


def aligned(patterns: Sequence[str], columns: Sequence[str], *, skip: int) -> Iterator[tuple[records.Pair, str]]:
    """Yields pairs from two files whose lines are each other's translation, with `columns` ('_' and 'text') in both.

    Raises:
        ValueError: as `read`; not two files; or they differ in length or in a column that is not read.
    """
    if len(patterns) != 2:
        raise ValueError(f"{len(patterns)} files of translations: give the source's and the target's")
    keys = ["key" if column == SKIPPED else column for column in columns]
    sides = [list(read((pattern,), keys, skip=skip)) for pattern in patterns]
    if len(sides[0]) != len(sides[1]):
        raise ValueError(f"{patterns[0]} has {len(sides[0])} lines but {patterns[1]} {len(sides[1])}: align them")
    for (source, where), (target, other) in zip(*sides, strict=True):
        first, second = dict(source), dict(target)
        if first.get("key") != second.get("key"):
            raise ValueError(f"{where} is of {first['key']!r} but {other} of {second['key']!r}: align the files")
        yield records.Pair(source=first["text"], targets=(second["text"],)), where


def _cells(line: str, where: str, columns: Sequence[str]) -> Row:
    cells = line.split("\t")
    if len(cells) != len(columns):
        wanted = ", ".join(columns)
        raise ValueError(
            f"{where} has {len(cells)} columns parted by tabs, not {len(columns)} ({wanted}): mend the line"
        )
    row = [(role, cell) for role, cell in zip(columns, cells, strict=True) if role != SKIPPED]
    return _filled(row, where)


def _object(line: str, where: str, columns: Sequence[str]) -> Row:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{where} is not JSON ({error}): repair the line") from None
    if not isinstance(value, dict):
        raise ValueError(f"{where} is a JSON {type(value).__name__}, not an object: repair the line")
    row: Row = []
    for column in columns:
        role, _, key = column.partition("=")
        if role == SKIPPED:
            continue
        if (key or role) not in value:
            have = ", ".join(sorted(value))
            raise ValueError(
                f"{where} has no key {key or role!r} but {have}: name the key, {role}=KEY, or mend the line"
            )
        found = value[key or role]
        row += [(role, str(text)) for text in (found if isinstance(found, list) else [found])]
    return _filled(row, where)


def _filled(row: Row, where: str) -> Row:
    blank = [role for role, text in row if role != "target" and not text.strip()]
    if blank:
        raise ValueError(f"{where} has nothing under {blank[0]!r}: fill it in or remove the line")
    return row
