"""Text files on disk, plain or gzipped, read line by line in bounded memory."""

import dataclasses
import glob
import gzip
import hashlib
import io
import os
import zlib
from collections.abc import Iterator
from typing import BinaryIO

# A line longer than this (in bytes) is taken for a file that is not one document a line: memory must stay bounded.
LONGEST = 2**24


@dataclasses.dataclass(frozen=True)
class Files:
    """The files that patterns match; the last suffix '.gz' means gzip.

    Attributes:
        patterns: path or glob, or several.
    """

    patterns: str | tuple[str, ...]

    def __str__(self) -> str:
        """Returns the patterns."""
        return self.patterns if isinstance(self.patterns, str) else ", ".join(self.patterns)

    def paths(self) -> tuple[str, ...]:
        """Returns the files, sorted within each pattern.

        Raises:
            ValueError: a pattern matches no file.
        """
        patterns = (self.patterns,) if isinstance(self.patterns, str) else tuple(self.patterns)
        found: list[str] = []
        for pattern in patterns:
            expanded = os.path.expanduser(pattern)
            # A file whose name has brackets is meant literally when it is there.
            there = [expanded] if os.path.isfile(expanded) else sorted(glob.glob(expanded, recursive=True))
            there = [path for path in there if os.path.isfile(path)]
            if not there:
                raise ValueError(f"{pattern} matches no file: correct the path or the pattern")
            found += there
        if not found:
            raise ValueError("no files were named: give a path or a pattern")
        return tuple(found)

    def digest(self) -> str:
        """Returns the sha256 of each file's name, size and contents, in the order they are read.

        Raises:
            ValueError: a file cannot be read.
        """
        running = hashlib.sha256()
        for path in self.paths():
            try:
                with open(path, "rb") as file:
                    contents = hashlib.file_digest(file, "sha256").hexdigest()
                    size = file.tell()
            except OSError as error:
                raise ValueError(f"{path} cannot be read ({error.strerror}): mend the file or its rights") from None
            running.update(f"{os.path.basename(path)}\t{size}\t{contents}\n".encode())
        return running.hexdigest()

    def lines(self) -> Iterator[tuple[str, str, float]]:
        """Yields each line that is not blank, 'file:line' for messages, and the share of all bytes read so far.

        Raises:
            ValueError: a file cannot be read, is cut short, is not UTF-8, or has a line over 16 MiB.
        """
        paths = self.paths()
        total = max(1, sum(os.path.getsize(path) for path in paths))
        before = 0
        for path in paths:
            number = 0
            try:
                with open(path, "rb") as raw, _unpacked(path, raw) as file:
                    while line := file.readline(LONGEST + 1):
                        number += 1
                        text = _text(line, path, number)
                        if text and not text.isspace():
                            yield text, f"{path}:{number}", (before + raw.tell()) / total
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise ValueError(
                    f"{path} is a damaged gzip file after line {number} ({error}): fetch or compress it again"
                ) from None
            except OSError as error:
                raise ValueError(f"{path} cannot be read ({error.strerror}): mend the file or its rights") from None
            before += os.path.getsize(path)


def _unpacked(path: str, raw: BinaryIO) -> io.BufferedReader | gzip.GzipFile:
    if path.endswith(".gz"):
        return io.BufferedReader(gzip.GzipFile(fileobj=raw), 2**20)  # pyright: ignore[reportArgumentType]
    return io.BufferedReader(raw, 2**20)  # pyright: ignore[reportArgumentType]


def _text(line: bytes, path: str, number: int) -> str:
    if len(line) > LONGEST:
        raise ValueError(
            f"{path}:{number} is longer than {LONGEST >> 20} MiB: put one document on a line, or split the document"
        )
    line = line.rstrip(b"\r\n")
    if number == 1:
        line = line.removeprefix(b"\xef\xbb\xbf")
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}:{number} is not UTF-8 ({error.reason}): convert the file, with iconv say") from None
