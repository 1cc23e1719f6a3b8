"""A downstream set in one language: its files by split, and the kind of task they hold. Imports no TensorFlow."""

import dataclasses
import functools
from collections.abc import Sequence

from tasks import formats, records

UPOS = tuple("ADJ ADP ADV AUX CCONJ DET INTJ NOUN NUM PART PRON PROPN PUNCT SCONJ SYM VERB X".split())
"""Universal part-of-speech tags (https://universaldependencies.org/u/pos)."""

TOPICS = ("entertainment", "geography", "health", "politics", "science/technology", "sports", "travel")
"""Topics of SIB-200 (https://arxiv.org/abs/2309.07445)."""

CHOICES = ("0", "1")
"""The first choice or the second."""

OUTSIDE = "O"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dataset:
    """The splits of a set in one language.

    Attributes:
        family: the set, such as 'ner.wikiann'.
        language: 'de', or 'en_de' for a translation.
        splits: (name, files) pairs; all hold one kind of task.
        prompt: what a text-to-text example begins with.
        classes: what labels may be; () is what all splits of the family's languages hold.
    """

    family: str
    language: str
    splits: tuple[tuple[str, formats.Source], ...]
    prompt: str = ""
    classes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """'ner.wikiann:de'; a family without languages is its own name."""
        return f"{self.family}:{self.language}" if self.language else self.family

    @property
    def kind(self) -> str:
        """'words', 'class', 'span' or 'text', see `formats.KINDS`."""
        return formats.KINDS[self.splits[0][1].format]

    def read(self, split: str, classes: Sequence[str] = ()) -> list[records.Record]:
        """Returns the examples of a split.

        Args:
            split: one of the names.
            classes: what labels may be.

        Raises:
            ValueError: no such split, files that cannot be read, no examples, or a label that is no class.
        """
        found = dict(self.splits)
        if split not in found:
            raise ValueError(f"{self.name!r} has no split {split!r}: choose from {', '.join(found)}")
        allowed, made = set(classes), []
        for record, where in found[split].read():
            odd = sorted(set(record.labels) - allowed)
            if odd:
                have = ", ".join(classes)
                raise ValueError(f"{where}: label {odd[0]!r} is none of {have[:200]}: correct it or name its classes")
            made.append(record)
        if not made:
            raise ValueError(f"{', '.join(found[split].files)} holds no examples: give another file")
        return made


@functools.lru_cache(maxsize=64)
def inventory(sources: tuple[formats.Source, ...]) -> tuple[str, ...]:
    """Returns every label in these files, 'O' first, the others sorted; read once.

    Raises:
        ValueError: a file cannot be read.
    """
    found = {label for source in sources for record, _ in source.read() for label in record.labels}
    return ((OUTSIDE,) if OUTSIDE in found else ()) + tuple(sorted(found - {OUTSIDE}))


def classes(datasets: Sequence[Dataset]) -> tuple[str, ...]:
    """Returns the classes of a family, over all its languages and splits, () where it has none.

    Raises:
        ValueError: a file cannot be read.
    """
    first = datasets[0]
    if first.kind not in ("words", "class"):
        return ()
    return first.classes or inventory(tuple(source for one in datasets for _, source in one.splits))
