"""Measures beyond the loss, for the evaluations of a stage: what a model labels, and what it writes."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np

from models import decoding
from recipes import mesh
from tasks import metrics

Batches = Iterable[Mapping[str, np.ndarray]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpanF1:
    """F1 over labelled spans, as seqeval counts them, on the positions that carry a label (first sub-words).

    Attributes:
      tags: the name of each class, 'O', 'B-x' or 'I-x', in the order of their ids.
    """

    tags: tuple[str, ...]

    def __call__(
        self, model: Any, params: Any, data: Any, batches: Batches, over: jax.sharding.Mesh
    ) -> dict[str, float]:
        """`precision`, `recall` and `f1` of the labels that `model` gives."""
        label = jax.jit(lambda params, batch: model.apply(params, batch).logits.argmax(axis=-1))
        predicted, wanted = [], []
        for batch in batches:
            given = np.asarray(label(params, mesh.put(batch, over)))
            for row in np.flatnonzero(batch["weights"].sum(axis=1)):
                there = batch["weights"][row] > 0
                predicted.append([self.tags[index] for index in given[row][there]])
                wanted.append([self.tags[index] for index in batch["targets"][row][there]])
        return metrics.span_f1(predicted, wanted)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExactMatch:
    """The share of targets that the model writes exactly, token by token.

    Attributes:
      beams: beams of the search; 1 is greedy.
      length_penalty: of the search, as Hugging Face counts it.
    """

    beams: int = 1
    length_penalty: float = 1.0

    def __call__(
        self, model: Any, params: Any, data: Any, batches: Batches, over: jax.sharding.Mesh
    ) -> dict[str, float]:
        """`exact_match`, between 0 and 1."""
        special, right, total = data.specials(), 0, 0
        ids = {"start": special.start, "end": special.eos, "pad": special.pad}
        for batch in batches:
            length = batch["targets"].shape[1]
            search = decoding.Search(length=length, beams=self.beams, length_penalty=self.length_penalty, **ids)
            written = np.asarray(decoding.decode(model, params, mesh.put(batch, over), search=search).tokens)
            for row in np.flatnonzero(batch["weights"].sum(axis=1)):
                wanted = batch["targets"][row][batch["weights"][row] > 0]
                right += np.array_equal(written[row][: len(wanted)], wanted)
                total += 1
        return {"exact_match": right / max(total, 1)}
