"""Where text comes from: files of lines or JSON, TensorFlow Datasets. Documents stream; none is held.

A source is a frozen dataclass that says what it is (`digest`), gives its documents as `str` without importing
TensorFlow, and turns into a `seqio.DataSource` (`provider`). `tasks.generated` has the source for the CLDR corpus.
"""

import abc
import dataclasses
import hashlib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

from tasks import files, holdout

if TYPE_CHECKING:
    import seqio


class Slice(Protocol):
    """Some consecutive documents of a source, small enough to be worked on whole by another process."""

    @property
    def share(self) -> float:
        """How much of the source has been read when this slice ends, 0 to 1."""
        ...

    def documents(self) -> Iterator[str]:
        """Yields the documents."""
        ...


@dataclasses.dataclass(frozen=True)
class Texts:
    """A slice that holds its documents.

    Attributes:
        texts: the documents.
        share: how much of the source has been read.
    """

    texts: tuple[str, ...]
    share: float

    def documents(self) -> Iterator[str]:
        """Yields the documents."""
        return iter(self.texts)


class Source(abc.ABC):
    """Text, as a stream of documents. Subclasses are frozen dataclasses."""

    @property
    @abc.abstractmethod
    def description(self) -> str:
        """What it is, in a few words."""

    @abc.abstractmethod
    def digest(self) -> str:
        """Returns the sha256 of what decides the documents.

        Raises:
            ValueError: the source cannot be read.
        """

    @abc.abstractmethod
    def stream(self) -> Iterator[tuple[str, float]]:
        """Yields each document that is not blank, and the share of the source read by then (0 to 1).

        Raises:
            ValueError: the source cannot be read, or what it holds is not text.
        """

    def documents(self) -> Iterator[str]:
        """Yields each document that is not blank, in the source's order."""
        return (text for text, _ in self.stream())

    def slices(self, characters: int) -> Iterator[Slice]:
        """Yields the documents in slices of about so many characters; nothing else moves their borders."""
        texts: list[str] = []
        held, share = 0, 0.0
        for text, share in self.stream():
            texts.append(text)
            held += len(text)
            if held >= characters:
                yield Texts(tuple(texts), share)
                texts, held = [], 0
        if texts:
            yield Texts(tuple(texts), share)

    def shards(self) -> tuple["Source", ...]:
        """Returns the parts of the source that hosts may read apart, in order: its files, or itself."""
        return (self,)

    def provider(self, *, validation: float = 0.0) -> "seqio.DataSource":
        """Returns this source for SeqIO, with examples {'text': str} and the splits 'train' and 'validation'.

        Args:
            validation: share of documents held out, the same ones as in a store with this share.
        """
        from tasks import seqio_source

        return seqio_source.Documents(self, held=holdout.Holdout(share=validation))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lines(Source):
    """Text files, one document a line, plain or gzipped.

    Attributes:
        files: path or glob, or several.
    """

    files: str | tuple[str, ...]

    @property
    def description(self) -> str:
        """The files' patterns."""
        return f"lines of {files.Files(self.files)}"

    def digest(self) -> str:
        """Returns the sha256 of names, sizes and contents of the files, and of how they are read."""
        return digest_of("lines", files.Files(self.files).digest())

    def stream(self) -> Iterator[tuple[str, float]]:
        """Yields each line that is not blank."""
        return ((text, share) for text, _, share in files.Files(self.files).lines())

    def shards(self) -> tuple[Source, ...]:
        """Returns the files one by one."""
        return tuple(Lines(files=path) for path in files.Files(self.files).paths())


@dataclasses.dataclass(frozen=True, kw_only=True)
class JsonLines(Source):
    """Files of JSON objects, one a line, plain or gzipped, with a document in one of the fields.

    Attributes:
        files: path or glob, or several.
        key: the field with the text.
    """

    files: str | tuple[str, ...]
    key: str = "text"

    @property
    def description(self) -> str:
        """The files' patterns and the field."""
        return f"field {self.key!r} of the JSON lines of {files.Files(self.files)}"

    def digest(self) -> str:
        """Returns the sha256 of names, sizes and contents of the files, and of how they are read."""
        return digest_of("json", self.key, files.Files(self.files).digest())

    def stream(self) -> Iterator[tuple[str, float]]:
        """Yields the text of each object, where it is not blank."""
        for line, where, share in files.Files(self.files).lines():
            text = self._text(line, where)
            if text and not text.isspace():
                yield text, share

    def shards(self) -> tuple[Source, ...]:
        """Returns the files one by one."""
        return tuple(JsonLines(files=path, key=self.key) for path in files.Files(self.files).paths())

    def _text(self, line: str, where: str) -> str:
        try:
            value = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{where} is not JSON ({error}): repair the line, or read the file as text") from None
        text = value.get(self.key) if isinstance(value, dict) else None
        if not isinstance(text, str):
            have = ", ".join(sorted(value)) if isinstance(value, dict) else f"a {type(value).__name__}"
            raise ValueError(f"{where} has no text under the key {self.key!r} but {have}: name another key")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError(f"{where} has half of a surrogate pair, which is not text: repair the line") from None
        return text


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tfds(Source):
    """A data set of TensorFlow Datasets; imports TensorFlow when it is read.

    Attributes:
        name: 'wikipedia/20230601.de', or with its version 'wikipedia/20230601.de:1.0.0'.
        split: 'train', 'train[:1%]', ...
        key: the feature with the text.
        data_dir: where it lies or is downloaded to, None for the library's own directory.
    """

    name: str
    split: str = "train"
    key: str = "text"
    data_dir: str | None = None

    @property
    def description(self) -> str:
        """Name, split and feature."""
        return f"feature {self.key!r} of {self.name} {self.split} (TensorFlow Datasets)"

    def digest(self) -> str:
        """Returns the sha256 of the name with its version, the split, its size and the feature."""
        info = self._builder().info
        return digest_of("tfds", info.full_name, self.split, self.key, info.splits[self.split].num_examples)

    def stream(self) -> Iterator[tuple[str, float]]:
        """Yields the text of each example, where it is not blank, in the order of the files."""
        import tensorflow_datasets

        builder = self._builder()
        total = builder.info.splits[self.split].num_examples
        # One file after another: the order must not hang on the machine.
        reading = tensorflow_datasets.ReadConfig(interleave_cycle_length=1)
        examples = builder.as_dataset(split=self.split, shuffle_files=False, read_config=reading)
        for number, example in enumerate(examples.as_numpy_iterator(), 1):
            text = example[self.key].decode()
            if text and not text.isspace():
                yield text, number / total

    def _builder(self) -> Any:
        import tensorflow_datasets

        try:
            builder = tensorflow_datasets.builder(self.name, data_dir=self.data_dir)
            builder.download_and_prepare()
            size = builder.info.splits[self.split].num_examples
            features = sorted(str(name) for name in dict(builder.info.features or {}))  # pyright: ignore
        except Exception as error:  # whatever the library's download layers raise
            reason = " ".join(str(error).split())[:200]
            raise ValueError(f"{self.name} {self.split} cannot be had from TensorFlow Datasets: {reason}") from None
        if self.key not in features or not size:
            have = ", ".join(features)
            raise ValueError(f"{self.name} {self.split} has {size} examples of {have}, not {self.key!r}: name another")
        return builder


def digest_of(*parts: object) -> str:
    """Returns the sha256 of plain JSON values."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
