"""Figures of the steps between two lines of metrics."""

import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from recipes import costing, figures, peaks, recipe


class Window:
    """Takes in the figures of each step, gives those of a window; knows the stage's tokens so far."""

    def __init__(self, stage: recipe.Stage, clock: int, tokens: int):
        """`clock` is the schedule position at the stage's first step, `tokens` what it has seen before this run."""
        self._stage, self._cost, self.tokens = stage, costing.of_stage(stage), tokens
        self._rate = stage.optimizer.rate(stage.steps, offset=clock)
        peak = peaks.flops(jax.devices()[0].device_kind)
        self._peak = None if peak is None else peak * jax.device_count()
        self._open()

    def _open(self) -> None:
        self._began = time.monotonic()
        self._sums = figures.Sums(self._stage.data.parts(), self._stage.loss)
        self._taken, self._before = 0, self.tokens
        self.waited = 0.0

    def add(self, step: int, stats: Mapping[str, Any]) -> float:
        """Takes in the figures of one step (waits for it), returns its loss; Mistake at the limit of skips."""
        read = jax.device_get(dict(stats))
        if int(read["streak"]) >= self._stage.max_skipped:
            raise recipe.Mistake(
                f"stage {self._stage.name!r}: loss or gradient wasn't finite in {int(read['streak'])} updates in a "
                f"row, up to step {step} (batch index {step - 1}, seed {self._stage.seed}); the last good checkpoint "
                "is kept; lower the learning rate, or raise max_skipped"
            )
        self._taken, self._skipped = self._taken + 1, int(read["skipped"])
        self.tokens += int(read["tokens"])
        if np.isfinite(read["objective"]) and np.isfinite(read["grad_norm"]):
            self._sums.add(read)
        return float(read["objective"])

    def close(self, step: int) -> dict[str, float]:
        """The figures of the window that ends with `step`; the next one begins."""
        seconds = max(time.monotonic() - self._began, 1e-9)
        found = self._sums.means() | {
            "learning_rate": float(self._rate(step - 1)),
            "tokens_per_second": (self.tokens - self._before) / seconds,
            "waiting": self.waited / seconds,
            "skipped": self._skipped,
        }
        if self._sums.batches:
            found["grad_norm"] = self._sums["grad_norm"] / self._sums.batches
        if self._peak is not None:
            found["mfu"] = self._cost.flops * self._taken / seconds / self._peak
        self._open()
        return found
