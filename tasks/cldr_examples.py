"""Labelled examples from the built-in corpus: token labelling, sentence classification, translation.

Example `index` of a split says the same fact in every language, so that a model trained on one language can be tested
on the same examples in another.
"""

import dataclasses
import random
import unicodedata
from collections.abc import Iterator
from typing import TypedDict

from tasks import cldr_facts, cldr_text

TAGS = ("O", *(f"{place}-{label}" for label in cldr_text.LABELS for place in "BI"))
"""Tags of token labelling, in the order of their ids: B- begins a span, I- goes on with it."""

KINDS = cldr_facts.KINDS
"""Classes of sentence classification, in the order of their ids."""


def tags() -> tuple[str, ...]:
    """Returns TAGS, for gin: `scores.SpanF1.tags = @cldr_examples.tags()`."""
    return TAGS


def kinds() -> tuple[str, ...]:
    """Returns KINDS, for gin."""
    return KINDS


class Labelled(TypedDict):
    """A sentence with its tokens, the tag of each, and where each begins in `text` (characters)."""

    text: str
    tokens: tuple[str, ...]
    tags: tuple[str, ...]
    starts: tuple[int, ...]


class Classified(TypedDict):
    """A sentence and the kind it is of."""

    text: str
    kind: str


class Translated(TypedDict):
    """One fact in two languages, and its kind."""

    source: str
    target: str
    kind: str


def label(language: str, index: int, *, split: str, seed: int = 0) -> Labelled:
    """Returns a sentence with a tag for each token."""
    pieces = cldr_text.language(language).say(_fact(index, split, seed, "label"))
    tokens: list[str] = []
    tags: list[str] = []
    starts: list[int] = []
    place = 0
    for text, name in pieces:
        for number, (start, stop) in enumerate(words(text)):
            tokens.append(text[start:stop])
            tags.append(f"{'I' if number else 'B'}-{name}" if name else "O")
            starts.append(place + start)
        place += len(text)
    text = "".join(text for text, _ in pieces)
    return Labelled(text=text, tokens=tuple(tokens), tags=tuple(tags), starts=tuple(starts))


def classify(language: str, index: int, *, split: str, seed: int = 0) -> Classified:
    """Returns a sentence with its kind; all kinds are equally frequent."""
    fact = _fact(index, split, seed, "classify")
    return Classified(text=cldr_text.language(language).sentence(fact), kind=fact.kind)


def translate(
    source: str,
    target: str,
    index: int,
    *,
    split: str,
    seed: int = 0,
    kinds: tuple[str, ...] = ("date",),
    layout: int | None = 0,
) -> Translated:
    """Returns a fact in two languages.

    Args:
        source: the language to translate from.
        target: the language to translate to.
        index: number of the example.
        split: the split that owns the fact's values.
        seed: another seed, other examples.
        kinds: kinds of facts; full dates by default.
        layout: index of the layout (0 is a date in full, its weekday too); None draws one.
    """
    fact = _fact(index, split, seed, "translate", kinds)
    if layout is not None:
        fact = cldr_facts.Fact(kind=fact.kind, layout=layout, values=fact.values)
    said = ("".join(text for text, _ in cldr_text.language(code).say(fact)) for code in (source, target))
    return Translated(source=next(said), target=next(said), kind=fact.kind)


def words(text: str) -> Iterator[tuple[int, int]]:
    """Yields (start, stop) of each token: what spaces part, with every mark of punctuation by itself.

    Punctuation between two digits stays inside the number or time.
    """
    start = 0
    for place, char in enumerate(text):
        inside = 0 < place < len(text) - 1 and text[place - 1].isdecimal() and text[place + 1].isdecimal()
        mark = unicodedata.category(char)[0] in "PS" and not inside
        if char.isspace() or mark:
            if start < place:
                yield start, place
            if mark:
                yield place, place + 1
            start = place + 1
    if start < len(text):
        yield start, len(text)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tasks:
    """Registers the labelled tasks for `examples.Examples` (see tasks/cldr_tasks.py).

    Attributes:
        vocabulary: the path of the vocabulary that spells the texts, or of a token store.
    """

    vocabulary: str

    def classes(self, task: str) -> tuple[str, ...]:
        """Returns the names of a labelled task's classes, in the order of their ids."""
        sort = task.split(":")[1] if task.count(":") else task
        if sort not in ("label", "classify"):
            raise ValueError(f"task {task!r} has no classes: those of cldr:label and cldr:classify have")
        return TAGS if sort == "label" else KINDS

    def register(self) -> None:
        """Registers all of them, once for a vocabulary; imports TensorFlow."""
        from tasks import cldr_tasks

        cldr_tasks.ensure(self.vocabulary)


def _fact(index: int, split: str, seed: int, task: str, kinds: tuple[str, ...] = cldr_facts.KINDS) -> cldr_facts.Fact:
    if split not in cldr_facts.SPLITS:
        raise ValueError(f"the built-in corpus has no split {split!r}: choose from {', '.join(cldr_facts.SPLITS)}")
    return cldr_facts.Scene(random.Random(f"{seed}/{task}/{split}/{index}").random, split).fact(kinds)
