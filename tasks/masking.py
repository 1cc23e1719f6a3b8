"""Masked language modelling: choose tokens, hide most of them, predict them all."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from tasks import batches, objective, pieces, specials


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskedLM(objective.Objective):
    """Masked language modelling of BERT (Devlin et al. 2019, arXiv:1810.04805).

    Every row has exactly round(rate * inputs) target slots; they are all used unless the row has fewer ordinary
    tokens. Special ids are never chosen, and every chosen token carries loss, whatever was written over it.

    Attributes:
        rate: share of a row's length that is predicted.
        mask: share of the chosen tokens that the mask id replaces.
        random: share that any ordinary id replaces.
        keep: share left as it is.
        span: how many neighbours are chosen together, from a place drawn for the row on; special ids part them, and
            the last span is cut where the slots end. 1 chooses single tokens.
    """

    kind: ClassVar[str] = "encoder"  # pyright: ignore[reportIncompatibleMethodOverride]

    rate: float = 0.15
    mask: float = 0.8
    random: float = 0.1
    keep: float = 0.1
    span: int = 1

    def __post_init__(self):
        """Refuses rates that are none."""
        objective.require(self, 0 < self.rate < 1, f"rate={self.rate} is not between 0 and 1")
        objective.require(self, self.span >= 1, f"span={self.span} is less than one token")
        shares = self.mask, self.random, self.keep
        whole = min(shares) >= 0 and abs(sum(shares) - 1) < 1e-6
        objective.require(self, whole, "mask={}, random={}, keep={} do not add up to 1".format(*shares))

    def masked(self, inputs: int) -> int:
        """Returns the number of target slots a row has."""
        return max(1, round(self.rate * inputs))

    def window(self, inputs: int, targets: int) -> int:
        """Returns how many raw tokens a row consumes: as many as it has inputs."""
        return inputs

    def spec(self, batch: int, inputs: int, targets: int) -> batches.Spec:
        """Returns name to (shape, dtype)."""
        return batches.masked_spec(batch, inputs, self.masked(inputs))

    def needs(self) -> tuple[str, ...]:
        """Returns the special ids it writes."""
        return ("mask",) if self.mask else ()

    def rows(
        self,
        found: pieces.Pieces,
        rngs: Sequence[np.random.Generator],
        *,
        inputs: int,
        targets: int,
        specials: specials.Specials,
    ) -> batches.Batch:
        """Returns the batch of these rows."""
        ordinary, choices = _ordinary(specials)
        batch = batches.encoder(found, inputs, pad=specials.pad)
        tokens = batch["encoder_inputs"]
        count = self.masked(inputs)
        drawn = np.stack([rng.random(inputs + 2 * count + (self.span > 1)) for rng in rngs])

        # The `count` smallest of as many random numbers as there are tokens are a uniform choice without replacement.
        # The tokens of a span have the number of its place among the spans, and go from left to right.
        allowed = ordinary[tokens] & (batch["encoder_segments"] > 0)
        order = drawn[:, :inputs]
        if self.span > 1:
            place = np.arange(inputs) + (drawn[:, -1:] * self.span).astype(np.int64)
            order = np.take_along_axis(order, place // self.span, 1) + 1e-9 * (place % self.span)
        order = np.where(allowed, order, 2.0)
        chosen = np.sort(np.argpartition(order, count - 1, axis=1)[:, :count], axis=1)
        # A row of too few ordinary tokens leaves slots over; they go last.
        used = np.take_along_axis(allowed, chosen, 1)
        chosen = np.take_along_axis(chosen, np.argsort(~used, axis=1, kind="stable"), 1)
        used = np.take_along_axis(allowed, chosen, 1)
        chosen = np.where(used, chosen, 0)
        answers = np.where(used, np.take_along_axis(tokens, chosen, 1), specials.pad)

        fate, which = drawn[:, inputs : inputs + count], drawn[:, inputs + count : inputs + 2 * count]
        written = np.where(fate < self.mask + self.random, choices[(which * len(choices)).astype(np.int64)], answers)
        if self.mask:
            written = np.where(fate < self.mask, specials.need("mask", type(self).__name__), written)
        tokens[np.nonzero(used)[0], chosen[used]] = written[used]
        return {
            **batch,
            "target_positions": chosen.astype(np.int32),
            "targets": answers.astype(np.int32),
            "weights": used.astype(np.float32),
        }


@functools.lru_cache(maxsize=8)
def _ordinary(special: specials.Specials) -> tuple[np.ndarray, np.ndarray]:
    """Returns whether each id stands for text ([size] bool), and the ids that do."""
    ordinary = np.ones(special.size, bool)
    ordinary[[i for name, i in special.named().items() if name != "unk"]] = False
    return ordinary, np.flatnonzero(ordinary).astype(np.int32)
