"""Measures beyond the loss, for the evaluations of a stage: what a model labels, and what it writes.

A score does two things: `answers` asks the model about every example, `measure` turns answers into figures. Between
the two, recipes/evaluate.py sorts the answers by part, so that a mixture of languages is scored language by language.
Of several processes each knows all answers, in the order of the examples, and the first one measures.
`whole` says whether a score needs every example once, in order (Evaluate.batches = None).
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import jax
import numpy as np

from models import decoding
from recipes import mesh, shares
from tasks import answers as passages
from tasks import metrics

Batches = Iterable[Mapping[str, np.ndarray]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
    """What a model says of one example.

    Attributes:
      part: which of the data's parts the example is of.
      predicted: the model's.
      wanted: the example's own.
    """

    part: int
    predicted: Any
    wanted: Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpanF1:
    """F1 over labelled spans, as seqeval counts them, on the positions that carry a label (first sub-words).

    Attributes:
      tags: the name of each class, 'O', 'B-x' or 'I-x', in the order of their ids.
    """

    whole: ClassVar[bool] = False

    tags: tuple[str, ...]

    def answers(self, model: Any, params: Any, data: Any, batches: Batches, over: jax.sharding.Mesh) -> list[Answer]:
        """The labels that `model` gives to each sentence."""
        return list(_labelled(model, params, batches, over))

    def measure(self, answers: Sequence[Answer]) -> dict[str, float]:
        """`precision`, `recall` and `f1`."""
        predicted, wanted = ([[self.tags[label] for label in side] for side in sides] for sides in _sides(answers))
        return metrics.span_f1(predicted, wanted)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Accuracy:
    """The share of right labels: of tokens (first sub-words), or of sentences."""

    whole: ClassVar[bool] = False

    def answers(self, model: Any, params: Any, data: Any, batches: Batches, over: jax.sharding.Mesh) -> list[Answer]:
        """The labels that `model` gives to each sentence, one or several."""
        return list(_labelled(model, params, batches, over))

    def measure(self, answers: Sequence[Answer]) -> dict[str, float]:
        """`accuracy` and `macro_f1` over all labels."""
        predicted, wanted = (np.concatenate(side) for side in _sides(answers))
        return {"accuracy": metrics.accuracy(predicted, wanted), "macro_f1": metrics.macro_f1(predicted, wanted)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExactMatch:
    """The share of texts that the model writes exactly, after decoding on both sides.

    Attributes:
      beams: beams of the search; 1 is greedy.
      length_penalty: of the search, as Hugging Face counts it.
      ignore_space: compare without white space, as semantic parsing is scored.
      ignore_case: compare without case.
    """

    whole: ClassVar[bool] = False

    beams: int = 1
    length_penalty: float = 1.0
    ignore_space: bool = False
    ignore_case: bool = False

    def answers(self, model: Any, params: Any, data: Any, batches: Batches, over: jax.sharding.Mesh) -> list[Answer]:
        """The text that `model` writes for each example."""
        return list(_written(model, params, data, batches, over, self.beams, self.length_penalty))

    def measure(self, answers: Sequence[Answer]) -> dict[str, float]:
        """`exact_match`, between 0 and 1."""
        predicted, wanted = _sides(answers)
        match = metrics.exact_match(predicted, wanted, ignore_space=self.ignore_space, ignore_case=self.ignore_case)
        return {"exact_match": match}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Generated:
    """Texts that the model writes, measured against all of an example's references. It needs every example once.

    Attributes:
      measures: what measures them, as `tasks.text_metrics.bleu`: from (written texts, references of each) to figures.
      beams: beams of the search; 1 is greedy.
      length_penalty: of the search, as Hugging Face counts it.
    """

    whole: ClassVar[bool] = True

    measures: tuple[Callable[[Sequence[str], Sequence[Sequence[str]]], Mapping[str, float]], ...]
    beams: int = 4
    length_penalty: float = 1.0

    def answers(self, model: Any, params: Any, data: Any, batches: Batches, over: jax.sharding.Mesh) -> list[Answer]:
        """The text that `model` writes for each example, and the texts that count as right."""
        found = list(_written(model, params, data, batches, over, self.beams, self.length_penalty))
        right = [row.get("references", [row["targets_pretokenized"]]) for row in data.references()]
        return [dataclasses.replace(answer, wanted=texts) for answer, texts in zip(found, right, strict=True)]

    def measure(self, answers: Sequence[Answer]) -> dict[str, float]:
        """The figures of all measures."""
        predicted, wanted = _sides(answers)
        return {name: value for measure in self.measures for name, value in measure(predicted, wanted).items()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Passages:
    """F1 over words and exact match of the passages that a model picks for questions, as SQuAD's script counts them.

    A question whose context is long has several rows; the best passage of all of them counts. It needs every example
    once: Evaluate.batches = None.

    Attributes:
      longest: tokens of an answer at most.
      normalise: "squad" normalises every language as SQuAD v1.1's script; "language" as MLQA's script, by the part's
        language, what follows the last colon of its name.
    """

    whole: ClassVar[bool] = True

    longest: int = 64
    normalise: str = "squad"

    def __post_init__(self):
        """Refuses a way to normalise that is none."""
        if self.normalise not in ("squad", "language"):
            raise ValueError(f"Passages: normalise={self.normalise!r} is neither 'squad' nor 'language'")

    def answers(self, model: Any, params: Any, data: Any, batches: Batches, over: jax.sharding.Mesh) -> list[Answer]:
        """Both logits of every token of each row, beside the row's own features."""
        read = jax.jit(lambda params, batch: model.apply(params, batch).logits)
        found: list[Answer] = []
        rows, names = data.references(), data.parts()
        for batch in batches:
            made = read(params, mesh.put(batch, over))
            whole = shares.gather({"made": made, **_of(batch, "part", "encoder_segments")}, over)
            logits = whole["made"].astype(np.float32)
            for row in np.flatnonzero(whole["encoder_segments"].any(axis=1)):
                part = int(whole["part"][row])
                language = names[part].rpartition(":")[2] if self.normalise == "language" else ""
                wanted = {**rows[len(found)], "language": language}
                found.append(Answer(part=part, predicted=logits[row], wanted=wanted))
        return found

    def measure(self, answers: Sequence[Answer]) -> dict[str, float]:
        """`f1` and `exact_match` over the questions."""
        predicted, rows = _sides(answers)
        logits = np.stack(predicted)
        language = rows[0]["language"]
        return passages.score(logits[..., 0], logits[..., 1], rows, longest=self.longest, language=language)


def _sides(answers: Sequence[Answer]) -> tuple[list[Any], list[Any]]:
    return [answer.predicted for answer in answers], [answer.wanted for answer in answers]


def _labelled(model: Any, params: Any, batches: Batches, over: jax.sharding.Mesh) -> Iterator[Answer]:
    """The most probable class at each target, one array an example that has any."""
    label = jax.jit(lambda params, batch: model.apply(params, batch).logits.argmax(axis=-1))
    for batch in batches:
        made = label(params, mesh.put(batch, over))
        whole = shares.gather({"made": made, **_of(batch, "part", "weights", "targets")}, over)
        given, weights, wanted = whole["made"], whole["weights"], whole["targets"]
        for row in np.flatnonzero(weights.sum(axis=tuple(range(1, weights.ndim)))):
            there = np.atleast_1d(weights[row]) > 0
            predicted, own = np.atleast_1d(given[row])[there], np.atleast_1d(wanted[row])[there]
            yield Answer(part=int(whole["part"][row]), predicted=predicted, wanted=own)


def _of(batch: Mapping[str, np.ndarray], *names: str) -> dict[str, np.ndarray]:
    return {name: batch[name] for name in names}


def _prompts(batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A decoder's batch without the answers: what stands up to the place that predicts the first of their tokens."""
    asked = np.cumsum(batch["weights"] > 0, axis=1) <= 1
    return {**batch, "decoder_segments": np.where(asked, batch["decoder_segments"], 0)}


def _written(
    model: Any, params: Any, data: Any, batches: Batches, over: jax.sharding.Mesh, beams: int, length_penalty: float
) -> Iterator[Answer]:
    """The text that the model writes for each example, and the example's own, as the vocabulary spells both."""
    special = data.specials()
    ids = {"start": special.start, "end": special.eos, "pad": special.pad}
    for batch in batches:
        alone = "encoder_inputs" not in batch
        length = data.targets if alone else batch["targets"].shape[1]
        search = decoding.Search(length=length, beams=beams, length_penalty=length_penalty, **ids)
        read = mesh.put(_prompts(batch) if alone else batch, over)
        made = decoding.decode(model, params, read, search=search).tokens
        whole = shares.gather({"made": made, **_of(batch, "part", "weights", "targets")}, over)
        for row in np.flatnonzero(whole["weights"].sum(axis=1)):
            wanted = whole["targets"][row][whole["weights"][row] > 0]
            predicted, own = data.text(whole["made"][row]), data.text(wanted)
            yield Answer(part=int(whole["part"][row]), predicted=predicted, wanted=own)
