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
from recipes import detection, losses, paths, recipe, temperatures


@dataclasses.dataclass(frozen=True, kw_only=True)
class AtTargets:
    """Tokens are restored at the targets alone: METRO's simplified corrective language modelling."""

    weight: float = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Everywhere:
    """Every token is restored, and may be copied where the detecting head holds it for an original (COCO-LM).

    p(x) = c [x is what the main encoder reads] + (1 - c) softmax(logits)(x), where c is the probability of an
    original, a constant for the gradient. L_clm is divided by the tokens, as L_rtd.
    """

    weight: float = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metro(losses.Loss):
    """The loss of a `Pair` on a batch of masked language modelling; None leaves a term out.

    Attributes:
      mlm: weight of the auxiliary's masked-LM loss; None for an auxiliary that is frozen.
      clm: where the main encoder restores the originals, and the weight of that.
      rtd: weight of detecting replaced tokens; 50 is COCO-LM's and METRO-T0's.
      temperature: what the auxiliary's logits are divided by before a token is drawn.
      chunk: targets of a device whose logits are in memory at one time.
    """

    mlm: float | None = 1.0
    clm: AtTargets | Everywhere | None = AtTargets()
    rtd: float | None = 50.0
    temperature: temperatures.Temperature = temperatures.Constant()
    chunk: int = 1024

    def __post_init__(self):
        """Refuses a loss that teaches the main encoder nothing, and a gate without what opens it."""
        if self.rtd is None and self.clm is None:
            raise ValueError("Metro: clm and rtd are None, which leaves the main encoder nothing to learn; give one")
        if self.rtd is None and isinstance(self.clm, Everywhere):
            raise ValueError("Metro: clm = Everywhere() copies by what rtd teaches, and rtd is None; give it a weight")

    @property
    def terms(self) -> dict[str, float]:
        """The weight of each term."""
        weights = {"mlm": self.mlm, "clm": self.clm and self.clm.weight, "rtd": self.rtd}
        return {name: weight for name, weight in weights.items() if weight is not None}

    def counts(self, batch: losses.Batch) -> losses.Sums:
        """Targets, and tokens that aren't padding, each at least 1. L_mlm has one even where it has no weight."""
        targets = jnp.maximum(batch["weights"].sum(), 1.0)
        tokens = jnp.maximum(_real(batch).sum(), 1.0)
        found = {"mlm": targets}
        if self.clm is not None:
            found["clm"] = tokens if isinstance(self.clm, Everywhere) else targets
        if self.rtd is not None:
            found["rtd"] = tokens
        return found

    def __call__(self, model: Any, params: Mapping[str, Array], batch: losses.Batch, key: Array | None) -> losses.Sums:
        """The sums of the terms, and `stat/...` and `row/...` without gradient.

        Without a key, in an evaluation, the draws follow the batch alone and are the same at every call.
        """
        draws, dropout = _keys(key, batch)
        sums, drawn = self._generated(model, params, batch, draws)
        written, used = _write(batch, drawn), batch["weights"]
        originals = _write(batch, batch["targets"])
        replaced, real = (written != originals).astype(jnp.float32), _real(batch)
        seen = {**batch, "encoder_inputs": written}
        if isinstance(self.clm, Everywhere):
            del seen["target_positions"]
        output = model.apply(params, seen, key=dropout)
        rows = jnp.zeros(()), used
        if self.clm is not None:
            if isinstance(self.clm, Everywhere):
                total, tokens, correct = self._copying(output, written, originals, real)
                kept, where = 1 - replaced, real
            else:
                total, made = self._restored(output, batch["targets"], used)
                tokens, correct = made["loss"], made["correct"]
                kept, where = (drawn == batch["targets"]).astype(jnp.float32), used
            rows = tokens * where, where
            sums |= {"clm": total} | _tally("clm", correct, kept, where)
        if self.rtd is not None:
            assert output.logits is not None
            tokens = jax.nn.softplus(output.logits) - output.logits * replaced
            rows = tokens * real, real
            sums |= {"rtd": jnp.sum(rows[0])} | detection.tally(output.logits, replaced, real)
        loss, weight = lax.stop_gradient(rows)
        return sums | {"row/loss": loss.sum(axis=1), "row/weight": weight.sum(axis=1)}

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

    def _restored(self, output: Any, targets: Array, weights: Array) -> tuple[Array, dict[str, Array]]:
        return softmax.cross_entropy(output.readout, output.hidden, targets, weights, chunk=self.chunk)

    def _copying(self, output: Any, read: Array, originals: Array, real: Array) -> tuple[Array, Array, Array]:
        """`Everywhere`: the sum, each token's loss and whether the softmax alone was right, [B, L].

        With p = c [x is read] + (1 - c) q, -log p has the gradient of -log q times (1 - c) q / p. So q is asked for
        first, and then its gradient with that share as the weight of each token.
        """
        still = lax.stop_gradient(output)
        _, plain = self._restored(still, originals, real)
        log_q = jax.nn.log_sigmoid(still.logits) - plain["loss"]
        log_p = jnp.where(read == originals, jnp.logaddexp(jax.nn.log_sigmoid(-still.logits), log_q), log_q)
        moved, _ = self._restored(output, originals, real * jnp.exp(log_q - log_p))
        return moved + lax.stop_gradient(jnp.sum(-log_p * real) - moved), -log_p, plain["correct"]

    def figures(self, sums: Mapping[str, Any]) -> dict[str, float]:
        """`loss`, all terms weighed; the auxiliary's accuracy and entropy; detection, restoring, the temperature."""
        found = {"loss": 0.0}
        for term, weight in self.terms.items():
            found["loss"] += weight * sums[term] / sums[f"count/{term}"]
        for name in ("auxiliary_correct", "auxiliary_entropy", "temperature"):
            found[name.replace("correct", "accuracy")] = sums[f"stat/{name}"] / sums["count/mlm"]
        if self.rtd is not None:
            found |= detection.figures(sums)
        if self.clm is not None:
            for name in ("kept", "replaced"):
                if sums[f"stat/clm/{name}"]:
                    found[f"clm_accuracy_{name}"] = sums[f"stat/clm/{name}_correct"] / sums[f"stat/clm/{name}"]
        return found

    def problems(self, stage: recipe.Stage) -> list[str]:
        """Where the stage's model, data or frozen parameters don't fit the terms."""
        model = stage.model
        if not isinstance(model, pair.Pair):
            return [f"loss Metro trains a Pair and the model is {type(model).__name__}; give it a Pair"]
        if model.decoder is not None and not isinstance(self.clm, AtTargets):
            return [f"loss Metro has clm = {self.clm} and the Pair's decoder restores at the targets; give AtTargets()"]
        found = []
        for field, has, what in (("clm", model.restoring, "MaskedLM"), ("rtd", model.detecting, "ReplacedToken")):
            if has != (getattr(self, field) is not None):
                found.append(
                    f"loss Metro has {field} = {getattr(self, field)} and the Pair's head, "
                    f"{type(model.head).__name__}, has {'a' if has else 'no'} {what}; change one of them"
                )
        if "target_positions" not in stage.data.spec(stage.batch):
            found.append(
                "loss Metro reads masked batches and the data gives no target_positions; use MaskedLM or RestoreText"
            )
        return found + _frozen_problems(self, stage)

    def costs(self, model: Any, *, rows: int, inputs: int, targets: int, predicted: int) -> tuple[Any, ...]:
        """What a batch costs: `Everywhere` asks for probabilities and then for gradients, four passes, not three."""
        restored = round(inputs * 4 / 3) if isinstance(self.clm, Everywhere) else predicted
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


def _keys(key: Array | None, batch: losses.Batch) -> tuple[Array, Array | None]:
    """The keys of the draws and of dropout."""
    if key is not None:
        draws, dropout = jax.random.split(key)
        return draws, dropout
    seen = jnp.sum(batch["encoder_inputs"] * (1 + batch["encoder_positions"]))
    return jax.random.fold_in(jax.random.key(0), seen), None


def _real(batch: losses.Batch) -> Array:
    """1 for a token that isn't padding, [B, L]."""
    return (batch["encoder_segments"] > 0).astype(jnp.float32)


def _write(batch: losses.Batch, tokens: Array) -> Array:
    """The batch's inputs [B, L] with `tokens` [B, M] at the targets; slots that are no target write nowhere."""
    inputs = batch["encoder_inputs"]
    at = jnp.where(batch["weights"] > 0, batch["target_positions"], inputs.shape[1])
    return jax.vmap(lambda row, place, new: row.at[place].set(new, mode="drop"))(inputs, at, tokens)


def _tally(name: str, correct: Array, kept: Array, where: Array) -> losses.Sums:
    """Counts of kept and of replaced places, and of those restored rightly."""
    found = {}
    for kind, share in (("kept", kept), ("replaced", 1 - kept)):
        found[f"stat/{name}/{kind}"] = jnp.sum(share * where)
        found[f"stat/{name}/{kind}_correct"] = jnp.sum(share * where * correct)
    return lax.stop_gradient(found)
