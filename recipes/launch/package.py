"""What travels to the workers: the committed tree with its lock, packed once."""

import dataclasses
import io
import pathlib
import re
import subprocess
import tarfile

from recipes import recipe

COMMIT = "COMMIT"
"""A file of the package that names its commit, as `git` isn't there on a worker (recipes/lineage.py reads it)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Package:
    """A packed tree.

    Attributes:
      root: the checkout it was packed from.
      commit: what was packed; ends with `+` when that is more than a commit.
      tree: git's name of it.
    """

    root: pathlib.Path
    commit: str
    tree: str

    def write(self, file: pathlib.Path) -> None:
        """Writes the tree as a gzipped tar."""
        packed = _git(self.root, "archive", "--format=tar", self.tree)
        buffer = io.BytesIO(packed)
        with tarfile.open(fileobj=buffer, mode="a") as tar:
            text = f"{self.commit}\n".encode()
            entry = tarfile.TarInfo(COMMIT)
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text))
        with tarfile.open(fileobj=io.BytesIO(buffer.getvalue())) as plain, tarfile.open(file, "w:gz") as zipped:
            for member in plain:
                zipped.addfile(member, plain.extractfile(member) if member.isfile() else None)

    def files(self) -> frozenset[str]:
        """The paths of its files, relative to the root."""
        return frozenset(_git(self.root, "ls-tree", "-r", "-z", "--name-only", self.tree).decode().split("\0"))

    def locked(self, name: str) -> str:
        """The version of a package in the locks."""
        for lock in ("requirements.txt", "requirements-dev.txt"):
            found = re.search(rf"^{re.escape(name)}==(\S+)", (self.root / lock).read_text(), re.MULTILINE)
            if found:
                return found[1]
        raise recipe.Mistake(f"{name} is not in the locks of {self.root}: run `make lock`")

    def inside(self, path: str) -> str:
        """The path of a gin file as a worker finds it; the name of a shipped one stays as it is.

        Raises Mistake for a file here that doesn't travel.
        """
        file = pathlib.Path(path)
        if not file.is_file():
            return path
        file, root = file.resolve(), self.root.resolve()
        name = file.relative_to(root).as_posix() if file.is_relative_to(root) else None
        if name is None or name not in self.files():
            raise recipe.Mistake(f"{path} is no part of the commit that travels: add it to {self.root} and commit it")
        return name


def pack(root: pathlib.Path, allow_dirty: bool = False) -> Package:
    """The package of a checkout. Untracked files never travel.

    Raises:
      recipe.Mistake: the tree differs from its commit and `allow_dirty` is off, or there is no commit.
    """
    try:
        head = _git(root, "rev-parse", "HEAD").decode().strip()
        changes = _git(root, "status", "--porcelain", "--untracked-files=no").decode().splitlines()
        untracked = _git(root, "ls-files", "--others", "--exclude-standard", "-z").decode().split("\0")[:-1]
        # A commit of the tracked files as they are, on no branch; empty when they are as committed.
        tree = _git(root, "stash", "create").decode().strip() if changes and allow_dirty else head
    except (OSError, subprocess.CalledProcessError):
        raise recipe.Mistake(f"{root} is no git checkout with a commit; submit packs what is committed") from None
    dirty = [line[3:] for line in changes] + untracked
    if dirty and not allow_dirty:
        raise recipe.Mistake(
            f"{len(dirty)} files of {root} differ from its commit ({dirty[0]} …): commit them, or give --allow-dirty "
            "to send the tracked ones as they are"
        )
    return Package(root=root, commit=head + ("+" if changes else ""), tree=tree or head)


def _git(root: pathlib.Path, *words: str) -> bytes:
    return subprocess.run(["git", "-C", str(root), *words], capture_output=True, check=True).stdout
