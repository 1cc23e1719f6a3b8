"""What `baton eval` left beside a stage: `<stage>/eval/<task>/scores.json`, the scores of every seed."""

import json
from typing import Any

from etils import epath

_TEST = "test/"


def read(stage: epath.Path) -> tuple[list[dict[str, Any]], list[str]]:
    """The evaluations of a stage, and what is wrong with those that can't be read.

    Returns:
      Of each: `task`, `figure` (what chose the learning rate), `rate`, `rates` (rate -> that figure on validation
      data), `step` (of the checkpoint it started from), and `scores` of the test data: (seed, name, value).
    """
    found, notes = [], []
    for file in sorted(stage.glob("eval/*/scores.json")):
        try:
            said = json.loads(file.read_text())
            scores = [
                [run["seed"], name.removeprefix(_TEST), value]
                for run in said["runs"]
                for name, value in run["scores"].items()
                if name.startswith(_TEST)
            ]
            kept = {key: said[key] for key in ("task", "figure", "rate", "rates")}
            found.append({**kept, "step": said["source"]["step"], "scores": scores})
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            notes.append(f"{file.relative_to(stage)} can't be read")
    return found, notes
