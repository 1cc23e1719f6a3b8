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
