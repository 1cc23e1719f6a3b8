"""What an encoder minimises that reads text in which a model has replaced tokens: it detects them and restores them.

    loss = clm * L_clm / targets + rtd * L_rtd / tokens

In a pair (recipes/metro.py) it is the main encoder's share of the loss. An encoder of its own learns by it from text
that was corrupted beforehand (tasks/corrupted.py): Fast-ELECTRA offline, where no auxiliary is at hand.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from models import encoder, heads, softmax
from recipes import detection, losses, recipe
from tasks import corrupted


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
class Denoised(losses.Loss):
    """The loss of an encoder on corrupted text: `encoder_inputs` is what it reads, `targets` what stood there before.

    A token that equals the original counts as original. None leaves a term out.

    Attributes:
      clm: where the originals are restored, and the weight of that.
      rtd: weight of detecting replaced tokens; 50 is COCO-LM's and METRO-T0's.
      chunk: targets of a device whose logits are in memory at one time.
    """

    clm: AtTargets | Everywhere | None = AtTargets()
    rtd: float | None = 50.0
    chunk: int = 1024

    def __post_init__(self):
        """Refuses a loss that teaches nothing, and a gate without what opens it."""
        name = type(self).__name__
        if self.rtd is None and self.clm is None:
            raise ValueError(f"{name}: clm and rtd are None, which leaves the main encoder nothing to learn; give one")
        if self.rtd is None and isinstance(self.clm, Everywhere):
            raise ValueError(
                f"{name}: clm = Everywhere() copies by what rtd teaches, and rtd is None; give it a weight"
            )

    @property
    def terms(self) -> dict[str, float]:
        """The weight of each term."""
        weights = {"clm": self.clm and self.clm.weight, "rtd": self.rtd}
        return {name: weight for name, weight in weights.items() if weight is not None}

    def counts(self, batch: losses.Batch) -> losses.Sums:
        """Targets, and tokens that aren't padding, each at least 1."""
        tokens = jnp.maximum(_real(batch).sum(), 1.0)
        found = {}
        if self.clm is not None:
            found["clm"] = tokens if isinstance(self.clm, Everywhere) else jnp.maximum(batch["weights"].sum(), 1.0)
        if self.rtd is not None:
            found["rtd"] = tokens
        return found

    def __call__(self, model: Any, params: Mapping[str, Array], batch: losses.Batch, key: Array | None) -> losses.Sums:
        """The sums of the terms, and `stat/...` and `row/...` without gradient; dropout is that of a pair's step."""
        return self.read(model, params, batch, keys(key, batch)[1])

    def read(self, model: Any, params: Mapping[str, Array], batch: losses.Batch, key: Array | None) -> losses.Sums:
        """The same, by the key of dropout alone."""
        inputs, used = batch["encoder_inputs"], batch["weights"]
        originals, real = write(batch, batch["targets"]), _real(batch)
        replaced = (inputs != originals).astype(jnp.float32)
        everywhere = isinstance(self.clm, Everywhere)
        seen = {name: value for name, value in batch.items() if not everywhere or name != "target_positions"}
        output = model.apply(params, seen, key=key)
        sums, rows = {}, (jnp.zeros(()), used)
        if self.clm is not None:
            if everywhere:
                total, tokens, correct = self._copying(output, inputs, originals, real)
                kept, where = 1 - replaced, real
            else:
                total, made = self._restored(output, batch["targets"], used)
                tokens, correct = made["loss"], made["correct"]
                kept, where = 1 - jnp.take_along_axis(replaced, batch["target_positions"], axis=1), used
            rows = tokens * where, where
            sums |= {"clm": total} | _tally("clm", correct, kept, where)
        if self.rtd is not None:
            assert output.logits is not None
            tokens = jax.nn.softplus(output.logits) - output.logits * replaced
            rows = tokens * real, real
            sums |= {"rtd": jnp.sum(rows[0])} | detection.tally(output.logits, replaced, real)
        loss, weight = lax.stop_gradient(rows)
        return sums | {"row/loss": loss.sum(axis=1), "row/weight": weight.sum(axis=1)}

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
        """`loss`, all terms weighed; how well is detected; how well is restored, replaced tokens and kept ones."""
        found = {"loss": 0.0}
        for term, weight in self.terms.items():
            found["loss"] += weight * sums[term] / sums[f"count/{term}"]
        if self.rtd is not None:
            found |= detection.figures(sums)
        if self.clm is not None:
            for name in ("kept", "replaced"):
                if sums[f"stat/clm/{name}"]:
                    found[f"clm_accuracy_{name}"] = sums[f"stat/clm/{name}_correct"] / sums[f"stat/clm/{name}"]
        return found

    def problems(self, stage: recipe.Stage) -> list[str]:
        """Where the stage's model or data don't fit."""
        model = stage.model
        if not isinstance(model, encoder.Encoder):
            return [
                f"loss Denoised trains an Encoder alone and the model is {type(model).__name__}; give it an Encoder"
            ]
        single = heads.single(model.head)
        restoring, detecting = (
            any(isinstance(one, kind) for one in single) for kind in (heads.MaskedLM, heads.ReplacedToken)
        )
        found = self.unfit(model, restoring=restoring, detecting=detecting)
        if not isinstance(stage.data, corrupted.Corrupted):
            found.append(
                f"loss Denoised reads text that a model has corrupted and the data is {type(stage.data).__name__}; "
                "give Corrupted, a store that `baton corrupt` has written"
            )
        return found

    def unfit(self, model: Any, *, restoring: bool, detecting: bool) -> list[str]:
        """Where the terms aren't those that a model, an encoder or a pair, has heads for."""
        found = []
        for field, has, head in (("clm", restoring, heads.MaskedLM), ("rtd", detecting, heads.ReplacedToken)):
            if has != (getattr(self, field) is not None):
                found.append(
                    f"loss {type(self).__name__} has {field} = {getattr(self, field)} and the {type(model).__name__}'s "
                    f"head, {type(model.head).__name__}, has {'a' if has else 'no'} {head.__name__}; change one of them"
                )
        return found

    def costs(self, model: Any, *, rows: int, inputs: int, targets: int, predicted: int) -> tuple[Any, ...]:
        """What a batch costs: `Everywhere` asks for probabilities and then for gradients, four passes, not three."""
        restored = self.restored(inputs, predicted)
        return model.costs(rows=rows, inputs=inputs, targets=targets, predicted=restored)

    def restored(self, inputs: int, predicted: int) -> int:
        """The places of a row whose restoring costs three passes as much."""
        return round(inputs * 4 / 3) if isinstance(self.clm, Everywhere) else predicted


def keys(key: Array | None, batch: losses.Batch) -> tuple[Array, Array | None]:
    """The keys of the draws and of dropout. Without a key, in an evaluation, the draws follow the batch alone."""
    if key is not None:
        draws, dropout = jax.random.split(key)
        return draws, dropout
    seen = jnp.sum(batch["encoder_inputs"] * (1 + batch["encoder_positions"]))
    return jax.random.fold_in(jax.random.key(0), seen), None


def write(batch: losses.Batch, tokens: Array) -> Array:
    """The batch's inputs [B, L] with `tokens` [B, M] at the targets; slots that are no target write nowhere."""
    inputs = batch["encoder_inputs"]
    at = jnp.where(batch["weights"] > 0, batch["target_positions"], inputs.shape[1])
    return jax.vmap(lambda row, place, new: row.at[place].set(new, mode="drop"))(inputs, at, tokens)


def _real(batch: losses.Batch) -> Array:
    """1 for a token that isn't padding, [B, L]."""
    return (batch["encoder_segments"] > 0).astype(jnp.float32)


def _tally(name: str, correct: Array, kept: Array, where: Array) -> losses.Sums:
    """Counts of kept and of replaced places, and of those restored rightly."""
    found = {}
    for kind, share in (("kept", kept), ("replaced", 1 - kept)):
        found[f"stat/{name}/{kind}"] = jnp.sum(share * where)
        found[f"stat/{name}/{kind}_correct"] = jnp.sum(share * where * correct)
    return lax.stop_gradient(found)
