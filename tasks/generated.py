"""Text that is composed by index, such as the built-in CLDR corpus, as a source."""

import dataclasses
import importlib.metadata
from collections.abc import Iterator
from typing import Protocol

from tasks import sources


class Corpus(Protocol):
    """What `Generated` asks of a corpus that is composed by index, such as `cldr.Corpus`: a frozen dataclass."""

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages it speaks."""
        ...

    def documents(self, language: str, start: int, count: int, split: str) -> Iterator[str]:
        """Yields documents `start` to `start + count` of a split."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Generated(sources.Source):
    """A language of a corpus that is composed by index (the built-in CLDR corpus), up to some number of documents.

    Attributes:
        corpus: the corpus; its repr tells its parameters.
        language: one of its languages.
        count: how many documents.
        split: the corpus's own split.
    """

    corpus: Corpus
    language: str
    count: int
    split: str = "train"

    def __post_init__(self):
        """Refuses a language that the corpus does not speak."""
        if self.language not in self.corpus.languages:
            have = ", ".join(self.corpus.languages)
            raise ValueError(f"the corpus has no language {self.language!r}: choose from {have}")
        if self.count < 1:
            raise ValueError(f"{self.count} documents of {self.language!r} are none: ask for at least one")

    @property
    def description(self) -> str:
        """Language, number and corpus."""
        return f"{self.count} {self.split} documents of {self.language!r} from {self.corpus}"

    def digest(self) -> str:
        """Returns the sha256 of the parameters and of the version of the data behind the corpus."""
        parameters = repr(self.corpus), self.language, self.count, self.split
        return sources.digest_of("generated", *parameters, importlib.metadata.version("babel"))

    def stream(self) -> Iterator[tuple[str, float]]:
        """Yields the documents."""
        for number, text in enumerate(self.corpus.documents(self.language, 0, self.count, self.split), 1):
            yield text, number / self.count

    def slices(self, characters: int) -> Iterator[sources.Slice]:
        """Yields ranges of indices: the documents are composed where they are worked on."""
        step = max(1, characters // 512)
        for start in range(0, self.count, step):
            stop = min(start + step, self.count)
            yield _Range(source=self, start=start, stop=stop, share=stop / self.count)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Range:
    source: Generated
    start: int
    stop: int
    share: float

    def documents(self) -> Iterator[str]:
        source = self.source
        return source.corpus.documents(source.language, self.start, self.stop - self.start, source.split)
