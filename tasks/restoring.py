"""What an auxiliary encoder and an encoder-decoder read: masked tokens, and the text for the decoder to write."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from tasks import batches, masking, pieces, specials

_READ = ("decoder_inputs", "decoder_segments", "decoder_positions")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RestoreText(masking.MaskedLM):
    """Masked language modelling for the auxiliary, and beside it the whole text for the decoder (METRO-T0).

    The encoder's side, the targets and their weights are `MaskedLM`'s. The decoder reads the original text one place to
    the right, so that its place i predicts the token at the encoder's place i; it is asked at `target_positions` alone,
    which serve both sides. A row has as many decoder places as encoder places.

    From METRO-T0's code (arXiv:2305.12567; github.com/gonglinyuan/metro_t0): all of this, with single tokens masked at
    15 %, 80/10/10 its defaults. Ours: spans, by a `span` above 1; the decoder begins with the vocabulary's start id and
    not with the mask; documents of a row are kept apart; all of the loss's weights are 1 (its base model weighs a token
    by the probability that the detecting head gives it of being replaced).
    """

    kind: ClassVar[str] = "encdec"

    def spec(self, batch: int, inputs: int, targets: int) -> batches.Spec:
        """Returns name to (shape, dtype)."""
        decoder = batches.decoder_spec(batch, inputs)
        return {**super().spec(batch, inputs, targets), **{name: decoder[name] for name in _READ}}

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
        masked = super().rows(found, rngs, inputs=inputs, targets=targets, specials=specials)
        decoder = batches.decoder(found, inputs, pad=specials.pad, start=specials.start)
        return {**masked, **{name: decoder[name] for name in _READ}}
