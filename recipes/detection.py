"""How well replaced tokens are told from originals, by sums that can be added up over batches and devices."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

BINS, EDGE = 128, 8.0
"""Logits from -EDGE to EDGE are counted in so many bins, those beyond in the first and the last."""


def tally(logits: Array, replaced: Array, real: Array) -> dict[str, Array]:
    """The counts of a batch, without gradient: all are [B, L], `replaced` and `real` (not padding) as 0 and 1.

    `stat/rtd/...`: `replaced` and `original` [BINS], tokens by the logit that they got; `found`, replaced ones with a
    logit above 0; `alarms`, originals with one.
    """
    logits, replaced, real = lax.stop_gradient((logits, replaced, real))
    bins = jnp.clip(jnp.floor((logits + EDGE) * (BINS / (2 * EDGE))), 0, BINS - 1)
    at = bins[..., None] == jnp.arange(BINS, dtype=bins.dtype)[None, None]
    above = jnp.where(logits > 0, 1.0, 0.0)
    found = {}
    for name, hits, these in (("replaced", "found", real * replaced), ("original", "alarms", real * (1 - replaced))):
        found[f"stat/rtd/{name}"] = jnp.sum(jnp.where(at, these[..., None], 0.0), axis=(0, 1))
        found[f"stat/rtd/{hits}"] = jnp.sum(these * above)
    return found


def figures(sums: Mapping[str, Any]) -> dict[str, float]:
    """`replaced` (their share of all tokens), and of the detection accuracy, precision, recall and the area under ROC.

    A figure whose denominator is 0 is left out. The area is exact but for pairs of one bin, which count one half.
    """
    replaced, original = np.asarray(sums["stat/rtd/replaced"]), np.asarray(sums["stat/rtd/original"])
    found, alarms = float(sums["stat/rtd/found"]), float(sums["stat/rtd/alarms"])
    ours, theirs = float(replaced.sum()), float(original.sum())
    below = np.cumsum(original) - original / 2
    ratios = {
        "replaced": (ours, ours + theirs),
        "rtd_accuracy": (found + theirs - alarms, ours + theirs),
        "rtd_precision": (found, found + alarms),
        "rtd_recall": (found, ours),
        "rtd_auc": (float(replaced @ below), ours * theirs),
    }
    return {name: above / by for name, (above, by) in ratios.items() if by > 0}
