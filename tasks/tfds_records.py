"""Downstream sets of TensorFlow Datasets: their features as records. Imports numpy alone."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from tasks import conll, dataset, questions, records

_ENTAILMENT = ("entailment", "neutral", "contradiction")
_PARAPHRASE = ("different_meaning", "paraphrase")
_WIKIANN = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC")

Example = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Conversion:
    """From the examples of a data set to records.

    Attributes:
        kind: of task, see `formats.KINDS`.
        needs: the features it reads.
        record: from an example, as numpy values, and the language, to a record; None leaves the example out.
        classes: of the labels.
        prompt: what a text-to-text example begins with.
    """

    kind: str
    needs: tuple[str, ...]
    record: Callable[[Example, str], records.Record | None]
    classes: tuple[str, ...] = ()
    prompt: str = ""


def _tags(words: str, tags: str, names: tuple[str, ...]) -> Callable[[Example, str], records.Tagged | None]:
    def record(example: Example, language: str) -> records.Tagged | None:
        found = [(_text(word), names[tag]) for word, tag in zip(example[words], example[tags], strict=True)]
        found = [(word, tag) for word, tag in found if word.strip()]
        spaced = conll.spaced(language)
        return records.Tagged(words=[w for w, _ in found], tags=[t for _, t in found], spaced=spaced) if found else None

    return record


def _nli(example: Example, language: str) -> records.Labelled | None:
    own = example["hypothesis"]
    there = {_text(name): _text(text) for name, text in zip(own["language"], own["translation"], strict=True)}
    if language not in there or language not in example["premise"]:
        return None
    texts = (("premise", _text(example["premise"][language])), ("hypothesis", there[language]))
    return records.Labelled(texts=texts, label=_ENTAILMENT[example["label"]])


def _paraphrase(example: Example, language: str) -> records.Labelled:
    texts = tuple((name, _text(example[name])) for name in ("sentence1", "sentence2"))
    return records.Labelled(texts=texts, label=_PARAPHRASE[example["label"]])


def _question(example: Example, language: str) -> records.Question:
    found = records.Question(
        id=_text(example["id"]),
        question=_text(example["question"]),
        context=_text(example["context"]),
        answers=[_text(answer) for answer in example["answers"]["text"]],
        starts=[int(start) for start in example["answers"]["answer_start"]],
    )
    if wrong := questions.problem(found):
        raise ValueError(wrong)
    return found


def _summary(example: Example, language: str) -> records.Pair:
    return records.Pair(source=_text(example["document"]), targets=(_text(example["summary"]),))


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


_POS = Conversion(
    kind="words",
    needs=("tokens", "upos"),
    record=_tags("tokens", "upos", (*dataset.UPOS, records.NO_TAG)),
    classes=dataset.UPOS,
    prompt="udpos",
)
_NLI = Conversion(
    kind="class", needs=("premise", "hypothesis", "label"), record=_nli, classes=_ENTAILMENT, prompt="xnli"
)
_SQUAD = Conversion(kind="span", needs=("id", "question", "context", "answers"), record=_question)
CONVERSIONS: Mapping[str, Conversion] = {
    "universal_dependencies": _POS,
    "xtreme_pos": _POS,
    "wikiann": Conversion(
        kind="words",
        needs=("tokens", "tags"),
        record=_tags("tokens", "tags", _WIKIANN),
        classes=(dataset.OUTSIDE, *sorted(set(_WIKIANN) - {dataset.OUTSIDE})),
        prompt="ner",
    ),
    "xnli": _NLI,
    "xtreme_xnli": _NLI,
    "xtreme_pawsx": Conversion(
        kind="class",
        needs=("sentence1", "sentence2", "label"),
        record=_paraphrase,
        classes=_PARAPHRASE,
        prompt="pawsx",
    ),
    "xquad": _SQUAD,
    "squad": _SQUAD,
    "mlqa": _SQUAD,
    "tydi_qa": _SQUAD,
    "xsum": Conversion(kind="text", needs=("document", "summary"), record=_summary, prompt="summarize"),
}
"""Name of a data set, without its configuration, to how it is read."""
