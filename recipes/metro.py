"""What a pair of models minimises (models/pair.py): the auxiliary fills masked places, the main one sees through it.

One step: the auxiliary predicts the tokens at the targets of a masked batch; a token is drawn from each prediction and
written where the mask was; the main encoder reads that, says of each token whether it was replaced, and restores the
originals, by a head or a decoder. A token drawn that equals the original counts as original. The draws are integers: no
gradient passes them.

    loss = mlm * L_mlm / targets + clm * L_clm / targets + rtd * L_rtd / tokens

ELECTRA (arXiv:2003.10555) detects alone; COCO-LM (arXiv:2102.08473) and METRO (arXiv:2204.06644) restore as well,
METRO-T0 (arXiv:2305.12567) by a decoder; in Fast-ELECTRA (arXiv:2310.07347) the auxiliary is frozen and its loss left
out.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from models import pair, quantile, softmax
from recipes import denoised, losses, paths, recipe, temperatures
from tasks import corrupted


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metro(denoised.Denoised):
    """The loss of a `Pair` on a batch of masked language modelling; None leaves a term out.

    Attributes:
      mlm: weight of the auxiliary's masked-LM loss; None for an auxiliary that is frozen.
      temperature: what the auxiliary's logits are divided by before a token is drawn.
    """

    mlm: float | None = 1.0
    temperature: temperatures.Temperature = temperatures.Constant()

    @property
    def terms(self) -> dict[str, float]:
        """The weight of each term."""
        return ({} if self.mlm is None else {"mlm": self.mlm}) | super().terms

    def counts(self, batch: losses.Batch) -> losses.Sums:
        """Targets, and tokens that aren't padding, each at least 1. L_mlm has one even where it has no weight."""
        return {"mlm": jnp.maximum(batch["weights"].sum(), 1.0)} | super().counts(batch)

    def __call__(self, model: Any, params: Mapping[str, Array], batch: losses.Batch, key: Array | None) -> losses.Sums:
        """The sums of the terms, and `stat/...` and `row/...` without gradient.

        Without a key, in an evaluation, the draws follow the batch alone and are the same at every call.
        """
        draws, dropout = denoised.keys(key, batch)
        sums, drawn = self._generated(model, params, batch, draws)
        written = denoised.write(batch, drawn)
        return sums | self.read(model, params, {**batch, "encoder_inputs": written}, dropout)

    def corrupt(self, model: Any, params: Mapping[str, Array], batch: losses.Batch, key: Array | None) -> Array:
        """What the main encoder reads under `key` [B, L], of the auxiliary's parameters alone."""
        draws, _ = denoised.keys(key, batch)
        _, drawn = self._generated(model, params, batch, draws)
        return denoised.write(batch, drawn)

    def _generated(self, model: Any, params: Any, batch: losses.Batch, key: Array) -> tuple[losses.Sums, Array]:
        """The auxiliary's sums, and the token it gives at each target [B, M]: one forward pass serves both."""
        targets, used = batch["targets"], batch["weights"]
        output = model.generate(params if self.mlm is not None else lax.stop_gradient(params), batch)
        degrees = self.temperature(batch.get("step"))
        degrees = jnp.broadcast_to(degrees[:, None] if degrees.ndim else degrees, targets.shape)
        draw = quantile.Draw(jax.random.uniform(key, targets.shape), degrees)
        total, tokens = softmax.cross_entropy(output.readout, output.hidden, targets, used, chunk=self.chunk, draw=draw)
        sums = {
            "mlm": total,
            "stat/auxiliary_correct": jnp.sum(tokens["correct"] * used),
            "stat/auxiliary_entropy": jnp.sum(tokens["entropy"] * used),
            "stat/temperature": jnp.sum(degrees * used),
        }
        return sums, tokens["drawn"]

    def figures(self, sums: Mapping[str, Any]) -> dict[str, float]:
        """`loss`, all terms weighed; the auxiliary's accuracy and entropy; detection, restoring, the temperature."""
        found = super().figures(sums)
        for name in ("auxiliary_correct", "auxiliary_entropy", "temperature"):
            found[name.replace("correct", "accuracy")] = sums[f"stat/{name}"] / sums["count/mlm"]
        return found

    def problems(self, stage: recipe.Stage) -> list[str]:
        """Where the stage's model, data or frozen parameters don't fit the terms."""
        model = stage.model
        if not isinstance(model, pair.Pair):
            return [f"loss Metro trains a Pair and the model is {type(model).__name__}; give it a Pair"]
        if model.decoder is not None and not isinstance(self.clm, denoised.AtTargets):
            return [f"loss Metro has clm = {self.clm} and the Pair's decoder restores at the targets; give AtTargets()"]
        found = self.unfit(model, restoring=model.restoring, detecting=model.detecting)
        if "target_positions" not in stage.data.spec(stage.batch):
            found.append(
                "loss Metro reads masked batches and the data gives no target_positions; use MaskedLM or RestoreText"
            )
        if isinstance(stage.data, corrupted.Corrupted):
            found.append("loss Metro corrupts what it reads and the data is corrupted already; train by Denoised")
        return found + _frozen_problems(self, stage)

    def costs(self, model: Any, *, rows: int, inputs: int, targets: int, predicted: int) -> tuple[Any, ...]:
        """What a batch costs both encoders."""
        restored = self.restored(inputs, predicted)
        return model.costs(rows=rows, inputs=inputs, targets=targets, predicted=predicted, restored=restored)


def _frozen_problems(loss: Metro, stage: recipe.Stage) -> list[str]:
    leaves = stage.model.abstract()
    moving = [path for path in leaves if not any(paths.matches(pattern, path) for pattern in stage.frozen)]
    own = [path for path in moving if path.startswith("auxiliary/")]
    if loss.mlm is not None:
        return [] if own else ["loss Metro has a weight for mlm and the auxiliary is frozen; set mlm = None"]
    if own:
        return [f"loss Metro has mlm = None and {own[0]} would still decay; freeze r'auxiliary/.*'"]
    if isinstance(stage.model.sharing, pair.Shared):
        return ["the auxiliary is frozen and the table it shares isn't; set Pair.sharing = @pair.Apart()"]
    return []
