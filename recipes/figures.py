"""Sums over steps or batches, and the means they make: losses, accuracy, the loss of each blend part."""

import collections
from collections.abc import Mapping
from typing import Any

import numpy as np


class Sums:
    """Adds up what recipes/step.py reports of a batch: `<term>` over `count/<term>`, `stat/…`, `part/…`."""

    def __init__(self, parts: tuple[str, ...], loss: Any):
        """`parts` names the rows of the batch's `part` feature; `loss` is what was minimised (recipes/losses.py)."""
        self._parts, self._loss = parts, loss
        self._sums: collections.defaultdict[str, Any] = collections.defaultdict(float)
        self._part_loss: Any = np.zeros(len(parts))
        self._part_weight: Any = np.zeros(len(parts))
        self.batches = 0

    def __getitem__(self, name: str) -> float:
        """The sum of one figure so far."""
        return float(self._sums[name])

    def add(self, stats: Mapping[str, Any]) -> None:
        """Takes in the figures of one batch, on the host."""
        for name, value in stats.items():
            if not name.startswith("part/"):
                self._sums[name] = self._sums[name] + np.asarray(value, np.float64)
        self._part_loss = self._part_loss + stats["part/loss"]
        self._part_weight = self._part_weight + stats["part/weight"]
        self.batches += 1

    def means(self) -> dict[str, float]:
        """Each term's loss, what the loss makes of its sums, and each blend part's loss where there are several."""
        terms = [name.removeprefix("count/") for name in self._sums if name.startswith("count/")]
        found = {term: float(self._sums[term] / self._sums[f"count/{term}"]) for term in terms}
        found |= {name: float(value) for name, value in self._loss.figures(self._sums).items()} if terms else {}
        if len(self._parts) > 1:
            weighed = zip(self._parts, self._part_loss, self._part_weight)
            found |= {f"loss/{part}": float(loss / weight) for part, loss, weight in weighed if weight > 0}
        return found
