"""The work directories that a report is about: named and checked before anything is read or written."""

import dataclasses
import re
from collections.abc import Sequence

from etils import epath

from recipes import recipe


@dataclasses.dataclass(frozen=True, kw_only=True)
class Folder:
    """A work directory, and what the report calls it."""

    name: str
    path: epath.Path


def find(given: Sequence[str]) -> list[Folder]:
    """The work directories of `given`, each a path or NAME=PATH; without a name a folder's own is taken.

    Raises:
      recipe.Mistake: one isn't there, is no work directory, or two have one name.
    """
    found: dict[str, Folder] = {}
    for text in given:
        folder = _folder(text)
        other = found.setdefault(folder.name, folder)
        if other is not folder:
            raise recipe.Mistake(
                f"two work directories are named {folder.name!r}: {other.path} and {folder.path}; "
                f"tell them apart with NAME=WORKDIR, for instance {folder.name}2={folder.path}"
            )
    return list(found.values())


def stages(path: epath.Path) -> list[str]:
    """The names of the folders in a work directory that hold a stage."""
    if not path.is_dir():
        return []
    return sorted(child.name for child in path.iterdir() if _is_stage(child))


def _folder(text: str) -> Folder:
    path, name = epath.Path(text), None
    named = re.fullmatch(r"([\w.-]+)=(.+)", text)
    if named and not path.exists():
        name, path = named[1], epath.Path(named[2])
    if not path.exists():
        raise recipe.Mistake(f"there is no work directory {str(path)!r}; give the --workdir of a `baton run`")
    if not path.is_dir():
        raise recipe.Mistake(f"{path} is a file; give the work directory of a `baton run`")
    if _is_stage(path):
        raise recipe.Mistake(f"{path} is one stage; give its work directory, {path.parent}")
    if not (path / "recipe.gin").exists() and not stages(path):
        raise recipe.Mistake(
            f"{path} is no work directory: it holds neither recipe.gin nor a stage; give the --workdir of a `baton run`"
        )
    return Folder(name=name or path.name or path.resolve().name, path=path)


def _is_stage(path: epath.Path) -> bool:
    return path.is_dir() and ((path / "checkpoints").is_dir() or (path / "metrics.jsonl").exists())
