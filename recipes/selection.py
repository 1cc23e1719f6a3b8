"""Which of a stage's evaluated checkpoints is the best so far, and whether it is time to stop looking."""

import math
from collections.abc import Mapping
from typing import Any

from recipes import recipe


class Selection:
    """Watches one figure of a stage; without a `recipe.Best` nothing is ever chosen.

    Attributes:
      step: the step with the best value so far, None before the first.
    """

    def __init__(self, stage: recipe.Stage, record: Mapping[str, Any] | None):
        """`record` is what an earlier process of the same stage had found out (`record()`), or None."""
        self._stage, self._best = stage, stage.best
        record = record or {"step": None, "value": None, "waited": 0}
        self.step: int | None = record["step"]
        self._value: float | None = record["value"]
        self._waited: int = record["waited"]

    def see(self, step: int, found: Mapping[str, float]) -> None:
        """Takes in the figures of an evaluation at `step`; raises Mistake when the watched one isn't among its own."""
        if self._best is None or self._best.figure.split("/")[0] not in {name.split("/")[0] for name in found}:
            return
        if self._best.figure not in found:
            raise recipe.Mistake(
                f"stage {self._stage.name!r}: best.figure = {self._best.figure!r}, and the evaluation gives "
                f"{', '.join(sorted(found))}; name one of these"
            )
        value = found[self._best.figure]
        better = self._value is None or (value < self._value if self._best.lower else value > self._value)
        if better and not math.isnan(value):
            self.step, self._value, self._waited = step, value, 0
        else:
            self._waited += 1

    @property
    def exhausted(self) -> bool:
        """Whether patience has run out."""
        return self._best is not None and self._best.patience is not None and self._waited >= self._best.patience

    def record(self) -> dict[str, Any] | None:
        """What the manifest keeps of it."""
        if self._best is None:
            return None
        return {"figure": self._best.figure, "step": self.step, "value": self._value, "waited": self._waited}
