"""Questions with their contexts and answers as text to pretrain on, one document a question."""

import dataclasses
from collections.abc import Iterator

from tasks import files, questions, sources


@dataclasses.dataclass(frozen=True, kw_only=True)
class Questions(sources.Source):
    """Files of questions, see tasks/questions.py; a document reads 'question: ... context: ... ANSWER'.

    That is what `downstream` asks a model that writes text, and the first answer behind it.

    Attributes:
        files: path or glob, or several; SQuAD's JSON, or JSON lines with one question each.
        split: the lines with this 'split'; '' is all.
    """

    files: str | tuple[str, ...]
    split: str = ""

    @property
    def description(self) -> str:
        """The files' patterns and the split."""
        return f"questions of {files.Files(self.files)}" + f", split {self.split!r}" * bool(self.split)

    def digest(self) -> str:
        """Returns the sha256 of names, sizes and contents of the files, and of how they are read."""
        return sources.digest_of("questions", self.split, files.Files(self.files).digest())

    def stream(self) -> Iterator[tuple[str, float]]:
        """Yields a document for each question.

        Raises:
            ValueError: a file cannot be read, lacks a part, or has no question of the split.
        """
        paths = files.Files(self.files).paths()
        some = False
        for number, path in enumerate(paths, 1):
            for record, _ in questions.read((path,), only=self.split):
                some = True
                yield f"{record.asked} {record.said}", number / len(paths)
        if not some:
            raise ValueError(f"{self.description}: there is none; name another split or other files")

    def shards(self) -> tuple[sources.Source, ...]:
        """Returns the files one by one."""
        return tuple(Questions(files=path, split=self.split) for path in files.Files(self.files).paths())
