"""What this machine remembers of a submission, for `baton submit status|logs|stop`."""

import dataclasses
import json
import os
import pathlib

from recipes import recipe
from recipes.launch import gcloud


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """A submission.

    Attributes:
      name: of its TPU.
      id: the label of what it made.
      zone: where.
      project: whose; None is gcloud's default.
      queued: whether it asked by a queued resource.
      workdir: where it trains.
      stopping: whether `baton submit stop` has ended it.
    """

    name: str
    id: str
    zone: str
    project: str | None
    queued: bool
    workdir: str
    stopping: bool = False

    @property
    def cloud(self) -> gcloud.Gcloud:
        """Its gcloud."""
        return gcloud.Gcloud(zone=self.zone, project=self.project, queued=self.queued)

    def save(self) -> None:
        """Writes it down, whole or not at all."""
        file = _file(self.name)
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_suffix(f".{os.getpid()}")
        draft.write_text(json.dumps(dataclasses.asdict(self), indent=1))
        draft.replace(file)

    def forget(self) -> None:
        """Removes it, unless another submission has taken the name."""
        known = load(self.name)
        if known is not None and known.id == self.id:
            _file(self.name).unlink(missing_ok=True)


def load(name: str) -> Record | None:
    """The submission of this name, or None."""
    file = _file(name)
    return Record(**json.loads(file.read_text())) if file.is_file() else None


def find(name: str) -> Record:
    """The submission of this name; raises Mistake where this machine knows none."""
    found = load(name) if "/" not in name else None
    if found is None:
        raise recipe.Mistake(f"no submission named {name!r} was made from this machine, or it has ended")
    return found


def _file(name: str) -> pathlib.Path:
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return pathlib.Path(state) / "baton" / "submit" / f"{name}.json"
