"""Downstream tasks for fine-tuning and scoring in SeqIO: from a folder of sets, own files, TensorFlow Datasets.

Features of a task, by its kind (tasks/formats.py says which files hold which):

    words   'inputs' a sentence with EOS; 'targets', as long: a word's class on its first sub-word, -100 elsewhere
    class   'inputs' a text with EOS, or several, each with EOS; 'targets' one class
    span    'inputs' question EOS context EOS, in rows; 'targets' the answer's ends in it (tasks/windows.py)
    text    'inputs' and 'targets' texts with EOS; 'references' every text that counts as right

Every task of the first three kinds has a twin 'text:NAME' of the last. 'inputs_pretokenized' and
'targets_pretokenized' hold the texts. Importing this imports no TensorFlow; `register` does.
"""

import dataclasses
import difflib
import functools
import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NoReturn

from tasks import dataset, folder, formats, forms

if TYPE_CHECKING:
    from tasks import records, tfds_records

TEXT = "text"
"""What the name of a text-to-text twin begins with."""

_Names = tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Folder:
    """The sets of a folder laid out as tasks/folder.py says: 'udpos:en', 'ner.wikiann:de', 'mt.ntrex:en_de', ...

    Attributes:
        root: the folder.
        vocabulary: of the texts: what `vocabulary.encoder` opens, also a token store.
        prefix: put before all names, with a colon.
        stride: ids from one row of a long context to the next.
    """

    root: str
    vocabulary: str
    prefix: str = ""
    stride: int = 128

    def register(self) -> _Names:
        """Registers a task for each set, language and kind, and a mixture of each set's languages at rate 1.

        Tasks that are registered with these arguments already stay as they are; others of the same names are replaced.

        Returns:
            The names, mixtures last.

        Raises:
            ValueError: no such folder, nothing in it, or no such vocabulary.
        """
        from tasks import seqio_records

        made = _register(folder.datasets(self.root), self.vocabulary, self.prefix, self.stride)
        mixtures: dict[str, list[str]] = {}
        for name in made:
            mixtures.setdefault(name.rpartition(":")[0], []).append(name)
        for name, tasks in mixtures.items():
            seqio_records.mix(name, tasks)
        return (*made, *mixtures)

    def classes(self, task: str) -> _Names:
        """Returns the classes of a task or mixture in the order of their ids, over all languages and splits.

        Args:
            task: its name; `prefix` may be left out.

        Raises:
            ValueError: no such task, one without classes, or a file that cannot be read.
        """
        return _classes(folder.datasets(self.root), task, self.prefix)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Files:
    """A set in files of one's own, as one task.

    Attributes:
        name: of the task, 'mine.nli:sw'.
        vocabulary: of the texts: what `vocabulary.encoder` opens, also a token store.
        format: of the files, see `formats.Source`.
        splits: (split, path or glob) pairs; a split that comes twice has several files.
        columns: of a table, see tasks/rows.py.
        skip: lines at the head of each file of a table.
        language: of the text; 'ja', 'th' and 'zh' write no spaces between words.
        labels: the classes, in the order of their ids; () is what the files hold, 'O' first, the others sorted.
        prompt: what a text-to-text example begins with.
        stride: ids from one row of a long context to the next.
    """

    name: str
    vocabulary: str
    format: str
    splits: tuple[tuple[str, str], ...]
    columns: tuple[str, ...] = ()
    skip: int = 0
    language: str = "en"
    labels: tuple[str, ...] = ()
    prompt: str = ""
    stride: int = 128

    def register(self) -> _Names:
        """Registers the task and its text-to-text twin; returns their names.

        Raises:
            ValueError: a format or columns that cannot be, or no such vocabulary.
        """
        return _register((self._dataset(),), self.vocabulary, "", self.stride)

    def classes(self, task: str) -> _Names:
        """Returns the classes in the order of their ids.

        Args:
            task: the name.

        Raises:
            ValueError: another name, a format without classes, or a file that cannot be read.
        """
        return _classes((self._dataset(),), task, "")

    def _dataset(self) -> dataset.Dataset:
        if not self.splits:
            raise ValueError(f"{self.name!r} has no splits: give (split, path) pairs")
        names = dict.fromkeys(split for split, _ in self.splits)
        files = {name: tuple(path for split, path in self.splits if split == name) for name in names}
        make = functools.partial(
            formats.Source, format=self.format, columns=self.columns, skip=self.skip, language=self.language
        )
        family, _, language = self.name.rpartition(":")
        return dataset.Dataset(
            family=family or language,
            language=language if family else "",
            splits=tuple((name, make(files=paths)) for name, paths in files.items()),
            prompt=self.prompt,
            classes=self.labels,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tfds:
    """A set of TensorFlow Datasets, of those in `tfds_records.CONVERSIONS`, as one task.

    Attributes:
        dataset: with configuration and version, such as 'wikiann/de:1.0.0'.
        vocabulary: of the texts: what `vocabulary.encoder` opens, also a token store.
        language: of the text; XNLI's examples hold all languages, and this one is taken.
        name: of the task; '' is 'tfds.wikiann:de', or 'tfds.xtreme_xnli:LANGUAGE'.
        data_dir: where the set lies or is downloaded to; '' is the library's own directory.
        stride: ids from one row of a long context to the next.
    """

    dataset: str
    vocabulary: str
    language: str = "en"
    name: str = ""
    data_dir: str = ""
    stride: int = 128

    def register(self) -> _Names:
        """Registers the task and its text-to-text twin; returns their names.

        Raises:
            ValueError: a set that cannot be read as a task, or without its version; no such vocabulary.
        """
        from tasks import seqio_records

        how = self._conversion()
        base, _, part = self.dataset.partition(":")[0].partition("/")
        name = self.name or f"tfds.{base}:{_letters(part or self.language)}"
        made = tuple(_forms(name, how.kind, how.prompt, self.stride))
        for label, form in made:
            if not seqio_records.current(label, self):
                seqio_records.register(
                    label,
                    seqio_records.downloaded(self.dataset, self.data_dir),
                    form,
                    lambda: how.classes,
                    self.vocabulary,
                    made_from=self,
                    convert=lambda example: how.record(example, self.language),
                    needs=how.needs,
                )
        return tuple(label for label, _ in made)

    def classes(self, task: str) -> _Names:
        """Returns the classes in the order of their ids.

        Args:
            task: the name, for the message.

        Raises:
            ValueError: a set that cannot be read as a task, or one without classes.
        """
        found = self._conversion().classes
        return found if found else _without(task)

    def _conversion(self) -> "tfds_records.Conversion":
        from tasks import tfds_records

        base = re.split("[/:]", self.dataset)[0]
        if base not in tfds_records.CONVERSIONS or ":" not in self.dataset:
            have = ", ".join(tfds_records.CONVERSIONS)
            raise ValueError(f"{self.dataset!r} is no set with its version, as 'xquad/de:3.0.0', of these: {have}")
        return tfds_records.CONVERSIONS[base]


def _register(found: Sequence[dataset.Dataset], vocabulary: str, prefix: str, stride: int) -> _Names:
    from tasks import seqio_records

    families: dict[str, tuple[dataset.Dataset, ...]] = {}
    for one in found:
        families[one.family] = (*families.get(one.family, ()), one)
    made: list[str] = []
    for one in found:
        family = families[one.family]
        classes = functools.partial(dataset.classes, family)
        for name, form in _forms(one.name, one.kind, one.prompt, stride):
            full = _full(name, prefix)
            key = (one, vocabulary, stride, family if one.kind in ("words", "class") else None)
            if not seqio_records.current(full, key):
                origin = seqio_records.source(functools.partial(_read, one, classes), tuple(dict(one.splits)))
                seqio_records.register(full, origin, form, classes, vocabulary, made_from=key)
            made.append(full)
    return tuple(made)


def _read(one: dataset.Dataset, classes: Callable[[], _Names], split: str) -> "list[records.Record]":
    return one.read(split, classes())


def _forms(name: str, kind: str, prompt: str, stride: int) -> Iterator[tuple[str, Callable[[_Names], forms.Form]]]:
    """Yields the names of a set's tasks, and what makes the form of each from the classes."""
    name = _letters(name)
    if kind == "words":
        yield name, lambda classes: forms.Words(classes=classes)
    elif kind == "class":
        yield name, lambda classes: forms.Class(classes=classes)
    elif kind == "span":
        yield name, lambda classes: forms.Span(stride=stride)
    yield name if kind == "text" else _full(name, TEXT), lambda classes: forms.Text(prompt=prompt)


def _classes(found: Sequence[dataset.Dataset], task: str, prefix: str) -> _Names:
    plain = task.removeprefix(f"{prefix}:").removeprefix(f"{TEXT}:")
    members = [one for one in found if plain in (_letters(one.name), _letters(one.family))]
    if not members:
        near = difflib.get_close_matches(plain, [_letters(one.name) for one in found], 3, 0.3)
        raise ValueError(f"no downstream task is named {task!r}: did you mean {' or '.join(near) or found[0].name}?")
    classes = dataset.classes([one for one in found if one.family == members[0].family])
    return classes if classes else _without(task)


def _without(task: str) -> NoReturn:
    raise ValueError(f"{task!r} has no classes: its targets are texts or passages")


def _full(name: str, prefix: str) -> str:
    return f"{_letters(prefix)}:{name}" if prefix else name


def _letters(name: str) -> str:
    """Returns the name in the characters that SeqIO takes."""
    return re.sub(r"[^\w.:#]", "_", name)
