"""What a stage minimises: sums and the counts that divide them.

A loss returns sums over its targets, `stat/...` without a gradient among them; its normalisers are functions of the
batch alone, known before the forward pass. So the division is global, accumulation is weighted by target tokens, and a
loss of several terms (each with its own count) needs no trainer of its own: loss = sum over terms of
coefficient * sum / count.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from models import softmax
from recipes import recipe

Batch = Mapping[str, jax.Array]
Sums = dict[str, jax.Array]


class Loss:
    """What every loss has beside `terms` (the weight of each term), `counts`, and the call that gives the sums."""

    def figures(self, sums: Mapping[str, Any]) -> dict[str, float]:
        """What the sums over some batches tell beyond the terms, on the host; `sums` has numpy numbers and arrays."""
        return {}

    def problems(self, stage: recipe.Stage) -> list[str]:
        """Why this loss can't train `stage`, one line each."""
        return []

    def costs(self, model: Any, *, rows: int, inputs: int, targets: int, predicted: int) -> tuple[Any, ...]:
        """What a batch costs `model` under this loss, as its own `costs`."""
        return model.costs(rows=rows, inputs=inputs, targets=targets, predicted=predicted)


class _OneTerm(Loss):
    """A loss of one term, divided by the weight of its targets."""

    terms = {"loss": 1.0}
    wants: ClassVar[str]

    def problems(self, stage: recipe.Stage) -> list[str]:
        """A model without the output that this loss reads."""
        if self.wants in stage.model.outputs:
            return []
        given = " and ".join(stage.model.outputs) or "states alone"
        return [
            f"loss {type(self).__name__} reads the {self.wants} of a model and the {type(stage.model).__name__} gives "
            f"{given}; give it another head, or another loss"
        ]

    def counts(self, batch: Batch) -> Sums:
        """The weight of all targets, at least 1."""
        return {"loss": jnp.maximum(batch["weights"].sum(), 1.0)}

    def figures(self, sums: Mapping[str, Any]) -> dict[str, float]:
        """The accuracy over all targets."""
        return {"accuracy": sums["stat/correct"] / sums["count/loss"]}


@dataclasses.dataclass(frozen=True, kw_only=True)
class LanguageModel(_OneTerm):
    """Cross-entropy of the targets' tokens: masked, causal, prefix or sequence-to-sequence alike.

    Attributes:
      z_loss: coefficient of log(Z)^2, which keeps the logits from drifting (PaLM, Chowdhery et al. 2022).
      label_smoothing: share of the target probability spread over the whole vocabulary.
      chunk: targets of a device whose logits are in memory at one time.
    """

    z_loss: float = 0.0
    label_smoothing: float = 0.0
    chunk: int = 1024

    wants = "readout"

    def __call__(self, model: Any, params: Mapping[str, jax.Array], batch: Batch, key: jax.Array | None) -> Sums:
        """Sums over the targets: `loss`, which has the gradient, and `stat/<name>` figures, which have none."""
        output = model.apply(params, batch, key=key)
        loss, tokens = softmax.cross_entropy(
            output.readout,
            output.hidden,
            batch["targets"],
            batch["weights"],
            z_loss=self.z_loss,
            label_smoothing=self.label_smoothing,
            chunk=self.chunk,
        )
        return {"loss": loss} | _stats(tokens["loss"], tokens["correct"], batch)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classes(_OneTerm):
    """Cross-entropy over a head's few classes: one a token (`targets` [B, L]) or one a sequence (`targets` [B])."""

    wants = "logits"

    def __call__(self, model: Any, params: Mapping[str, jax.Array], batch: Batch, key: jax.Array | None) -> Sums:
        """Sums over the targets, as LanguageModel's."""
        logits = model.apply(params, batch, key=key).logits.astype(jnp.float32)
        targets, weights = batch["targets"], batch["weights"]
        picked = jnp.take_along_axis(logits, jnp.maximum(targets, 0)[..., None], axis=-1)[..., 0]
        tokens = jax.nn.logsumexp(logits, axis=-1) - picked
        correct = (jnp.argmax(logits, axis=-1) == targets).astype(jnp.float32)
        return {"loss": jnp.sum(tokens * weights)} | _stats(tokens, correct, batch)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spans(_OneTerm):
    """Cross-entropy of an answer's first and last position, of a head with two logits a token (BERT's for SQuAD).

    `targets` and `weights` are [B, 2]; padding is no candidate.
    """

    wants = "logits"

    def __call__(self, model: Any, params: Mapping[str, jax.Array], batch: Batch, key: jax.Array | None) -> Sums:
        """Sums over the positions, as LanguageModel's."""
        logits = model.apply(params, batch, key=key).logits.astype(jnp.float32)
        padding = jnp.where(batch["encoder_segments"] > 0, 0.0, -1e9)
        logits = jnp.moveaxis(logits, -1, 1) + padding[:, None, :]
        picked = jnp.take_along_axis(logits, batch["targets"][..., None], axis=-1)[..., 0]
        positions = jax.nn.logsumexp(logits, axis=-1) - picked
        correct = (jnp.argmax(logits, axis=-1) == batch["targets"]).astype(jnp.float32)
        return {"loss": jnp.sum(positions * batch["weights"])} | _stats(positions, correct, batch)


def _stats(loss: jax.Array, correct: jax.Array, batch: Batch) -> Sums:
    """Target count, correct targets, and loss and weight of each row: the host sums the rows by blend part."""
    loss, correct, weights = jax.lax.stop_gradient((loss, correct, batch["weights"]))
    rest = tuple(range(1, weights.ndim))
    return {
        "stat/correct": jnp.sum(correct * weights),
        "row/loss": jnp.sum(loss * weights, axis=rest),
        "row/weight": jnp.sum(weights, axis=rest),
    }
