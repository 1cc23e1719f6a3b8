"""How far a mean of repeated runs can be trusted."""

import math
import statistics
from collections.abc import Sequence

from scipy import special


def half(values: Sequence[float]) -> float | None:
    """Half of the 95 % interval of a mean by Student's t: t(0.975, n - 1) s / sqrt(n); None for fewer than two."""
    if len(values) < 2:
        return None
    return float(special.stdtrit(len(values) - 1, 0.975)) * statistics.stdev(values) / math.sqrt(len(values))


def half_of_difference(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Half of the 95 % interval of mean(other) - mean(one), repeats that aren't pairs and may spread unlike each other.

    Welch 1947 (Biometrika 34): s_1^2 / n_1 + s_2^2 / n_2 under Student's t with the degrees of freedom of
    Satterthwaite. None where a side has fewer than two, or none of them differ.
    """
    if min(len(one), len(other)) < 2:
        return None
    parts = [statistics.variance(values) / len(values) for values in (one, other)]
    if not sum(parts):
        return None
    freedom = sum(parts) ** 2 / sum(part**2 / (len(values) - 1) for part, values in zip(parts, (one, other)))
    return float(special.stdtrit(freedom, 0.975)) * math.sqrt(sum(parts))
