"""How records become the features of a task: labels of words, a class, a passage, a text.

A form has `features`, an iterator of examples, and `spec`, which says of each feature whether it is 'ids' [n],
'places' [n, 2], 'text' or 'texts' [n]. Ids end with EOS, also where they are cut to length.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from tasks import alignment, encoder, records, windows

Example = dict[str, Any]
Lengths = Mapping[str, int]
_PRETOKENIZED = {"inputs_pretokenized": "text", "targets_pretokenized": "text"}


class Form(Protocol):
    """Makes features of records."""

    @property
    def spec(self) -> Mapping[str, str]:
        """Name to what it holds."""
        ...

    def features(self, found: Sequence[Any], spell: encoder.Encoder, lengths: Lengths) -> Iterator[Example]:
        """Yields the examples of records of one kind.

        Args:
            found: the records.
            spell: the vocabulary.
            lengths: feature to the length it is cut to; features without one stay whole.

        Raises:
            ValueError: a length that cannot hold an example.
        """
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Words:
    """`Tagged` sentences: the class of each word on its first id, `alignment.IGNORED` elsewhere."""

    classes: tuple[str, ...]
    spec = {"inputs": "ids", "targets": "ids", **_PRETOKENIZED}

    def features(self, found: Sequence[records.Tagged], spell: encoder.Encoder, lengths: Lengths) -> Iterator[Example]:
        """Yields 'inputs' and 'targets' of one length; a word without a tag is ignored."""
        index = {tag: number for number, tag in enumerate(self.classes)}
        spaced = all(record.spaced for record in found)
        aligned = alignment.words(spell, [record.words for record in found], spaced=spaced)
        for record, (ids, positions) in zip(found, aligned, strict=True):
            inputs = ended(ids, spell.specials.eos, lengths.get("inputs"))
            targets = np.full(len(ids), alignment.IGNORED, np.int32)
            for position, tag in zip(positions, record.tags, strict=True):
                if position >= 0:
                    targets[position] = index.get(tag, alignment.IGNORED)
            targets = np.append(targets[: len(inputs) - 1], np.int32(alignment.IGNORED))
            yield {"inputs": inputs, "targets": targets, **_pretokenized(record.text, record.said)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Class:
    """`Labelled` texts: 'text EOS' or 'premise EOS hypothesis EOS', and one class.

    Of several texts that do not fit together, the longest is cut first.
    """

    classes: tuple[str, ...]
    spec = {"inputs": "ids", "targets": "ids", **_PRETOKENIZED}

    def features(
        self, found: Sequence[records.Labelled], spell: encoder.Encoder, lengths: Lengths
    ) -> Iterator[Example]:
        """Yields 'inputs' and one number as 'targets'."""
        spelt = iter(spell.encode([text for record in found for _, text in record.texts]))
        eos, length = spell.specials.eos, lengths.get("inputs")
        for record in found:
            parts = [next(spelt) for _ in record.texts]
            if length is not None:
                parts = fitted(parts, length - len(parts))
            yield {
                "inputs": np.concatenate([np.append(part, eos) for part in parts]).astype(np.int32)[:length],
                "targets": np.array([self.classes.index(record.label)], np.int32),
                **_pretokenized(record.asked, record.said),
            }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Span:
    """`Question`s: see tasks/windows.py."""

    stride: int
    spec = {
        "inputs": "ids",
        "targets": "ids",
        "offsets": "places",
        "context": "text",
        "id": "text",
        "answers": "texts",
        **_PRETOKENIZED,
    }

    def features(
        self, found: Sequence[records.Question], spell: encoder.Encoder, lengths: Lengths
    ) -> Iterator[Example]:
        """Yields one row or several for each question."""
        return windows.rows(found, spell, length=lengths.get("inputs"), stride=self.stride)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Text:
    """Any record as text to text: what is asked, behind the prompt and a colon, and what is said."""

    prompt: str = ""
    spec = {"inputs": "ids", "targets": "ids", "references": "texts", **_PRETOKENIZED}

    def features(self, found: Sequence[records.Record], spell: encoder.Encoder, lengths: Lengths) -> Iterator[Example]:
        """Yields 'inputs', 'targets' and 'references', every text that counts as right."""
        asked = [f"{self.prompt}: {record.asked}" if self.prompt else record.asked for record in found]
        said = [record.said for record in found]
        eos, spelt = spell.specials.eos, zip(spell.encode(asked), spell.encode(said), strict=True)
        for record, inputs, (ids, targets) in zip(found, asked, spelt, strict=True):
            yield {
                "inputs": ended(ids, eos, lengths.get("inputs")),
                "targets": ended(targets, eos, lengths.get("targets")),
                "references": list(record.references),
                **_pretokenized(inputs, record.said),
            }


def ended(ids: np.ndarray, eos: int, length: int | None) -> np.ndarray:
    """Returns the ids with EOS, int32, cut to `length` with it."""
    kept = ids if length is None else ids[: max(0, length - 1)]
    return np.append(kept, eos).astype(np.int32)


def fitted(parts: Sequence[np.ndarray], room: int) -> list[np.ndarray]:
    """Returns the parts with `room` ids in all at most, the longest cut first."""
    left = [len(part) for part in parts]
    limit = max(left, default=0)
    while limit and sum(min(limit, count) for count in left) > room:
        limit -= 1
    # What equal cuts leave over goes to the first of the long parts.
    spare = room - sum(min(limit, count) for count in left)
    kept = []
    for part in parts:
        more = 1 if len(part) > limit and spare > 0 else 0
        spare -= more
        kept.append(part[: limit + more])
    return kept


def _pretokenized(asked: str, said: str) -> Example:
    return {"inputs_pretokenized": asked, "targets_pretokenized": said}
