"""What one example of a downstream task says, before any vocabulary: four kinds of records.

Each has `asked` and `said`, what a model that writes text reads and writes, `references`, every text that counts as
right, and `labels`, the classes it needs. They pass through tf.data as JSON.
"""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

NO_TAG = "_"
"""Tag of a word that has none, as CoNLL-U writes it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tagged:
    """A sentence with a tag for each word.

    Attributes:
        words: the words.
        tags: as many.
        spaced: whether the language writes a space between words.
    """

    words: Sequence[str]
    tags: Sequence[str]
    spaced: bool = True

    @property
    def text(self) -> str:
        """The sentence."""
        return (" " if self.spaced else "").join(self.words)

    @property
    def asked(self) -> str:
        """The words with a space between, in every language: there is a tag for each."""
        return " ".join(self.words)

    @property
    def said(self) -> str:
        """The tags with a space between."""
        return " ".join(self.tags)

    @property
    def references(self) -> Sequence[str]:
        """The tags."""
        return (self.said,)

    @property
    def labels(self) -> Sequence[str]:
        """The tags of the words that have one."""
        return [tag for tag in self.tags if tag != NO_TAG]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Labelled:
    """One text, or several with names, and their class.

    Attributes:
        texts: (name, text) pairs, such as ('premise', ...) and ('hypothesis', ...).
        label: the class.
    """

    texts: Sequence[tuple[str, str]]
    label: str

    @property
    def asked(self) -> str:
        """'premise: ... hypothesis: ...', or a text alone as it is."""
        if len(self.texts) == 1:
            return self.texts[0][1]
        return " ".join(f"{name}: {text}" for name, text in self.texts)

    @property
    def said(self) -> str:
        """The class."""
        return self.label

    @property
    def references(self) -> Sequence[str]:
        """The class."""
        return (self.label,)

    @property
    def labels(self) -> Sequence[str]:
        """The class."""
        return (self.label,)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Question:
    """A question whose answer is a passage of its context.

    Attributes:
        id: of the question, unique in its set.
        question: the question.
        context: the text with the answer.
        answers: at least one.
        starts: the characters of `context` at which they begin.
    """

    id: str
    question: str
    context: str
    answers: Sequence[str]
    starts: Sequence[int]

    @property
    def asked(self) -> str:
        """'question: ... context: ...'."""
        return f"question: {self.question} context: {self.context}"

    @property
    def said(self) -> str:
        """The first answer."""
        return self.answers[0]

    @property
    def references(self) -> Sequence[str]:
        """The answers."""
        return self.answers

    @property
    def labels(self) -> Sequence[str]:
        """None."""
        return ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pair:
    """A text and what is to be written for it.

    Attributes:
        source: what is read.
        targets: at least one text; the first is learnt from, all count when scoring.
    """

    source: str
    targets: Sequence[str]

    @property
    def asked(self) -> str:
        """The source."""
        return self.source

    @property
    def said(self) -> str:
        """The first target."""
        return self.targets[0]

    @property
    def references(self) -> Sequence[str]:
        """The targets."""
        return self.targets

    @property
    def labels(self) -> Sequence[str]:
        """None."""
        return ()


Record = Tagged | Labelled | Question | Pair
_KINDS: dict[str, Any] = {kind.__name__: kind for kind in (Tagged, Labelled, Question, Pair)}


def dump(record: Record) -> str:
    """Returns a record as one line of JSON."""
    return json.dumps([type(record).__name__, dataclasses.asdict(record)], ensure_ascii=False)


def load(line: str | bytes) -> Record:
    """Inverse of `dump`; sequences come back as lists."""
    kind, values = json.loads(line)
    return _KINDS[kind](**values)
