"""A directory, on disk or in a bucket, read and written through TensorStore's key-value stores."""

import dataclasses
import json
import os
import re
import shutil
from collections.abc import Iterable
from typing import Any

import tensorstore

# Stands for a size that would take reading the file to know.
UNKNOWN = -1


@dataclasses.dataclass(frozen=True)
class Place:
    """A directory on disk ('store/en') or in a bucket ('gs://bucket/store/en').

    Single writes are atomic: a reader, or a process that starts after a kill, sees the old value or the new one.
    """

    root: str

    @property
    def local(self) -> bool:
        """Whether it is on disk."""
        return re.match(r"[a-z0-9]+://", self.root) is None

    def spec(self, key: str = "") -> dict[str, Any] | str:
        """Returns TensorStore's description of the folder `key`."""
        if self.local:
            return {"driver": "file", "path": os.path.join(os.path.abspath(os.path.expanduser(self.root)), key, "")}
        return "/".join(part for part in (self.root.rstrip("/"), key) if part) + "/"

    def __truediv__(self, key: str) -> "Place":
        """Returns the folder `key` inside this one."""
        return Place("/".join((self.root.rstrip("/") or "", key)))

    def __str__(self) -> str:
        """Returns the path or URL."""
        return self.root

    def read(self, key: str) -> bytes | None:
        """Returns the bytes of the file `key`, None where there is none."""
        result = self._files().read(key).result()
        return result.value if result.state == "value" else None

    def write(self, key: str, value: bytes) -> None:
        """Writes the file `key`, whole or not at all."""
        self._files().write(key, value).result()

    def read_json(self, key: str) -> dict[str, Any] | None:
        """Returns the object in the JSON file `key`, None where there is no file.

        Raises:
            ValueError: the file is not a JSON object.
        """
        text = self.read(key)
        if text is None:
            return None
        try:
            value = json.loads(text)
        except ValueError as error:
            raise ValueError(f"{self}/{key} is not JSON ({error}): restore it or build it again") from None
        if not isinstance(value, dict):
            raise ValueError(f"{self}/{key} holds {type(value).__name__}, expected an object: restore it")
        return value

    def write_json(self, key: str, value: dict[str, Any]) -> None:
        """Writes a JSON file that a person can read."""
        self.write(key, (json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True) + "\n").encode())

    def keys(self, inside: str = "") -> tuple[str, ...]:
        """Returns every file under the folder `inside`, as sorted paths from there."""
        return tuple(sorted(key.decode() for key in self._files(inside).list().result()))

    def sizes(self, keys: Iterable[str]) -> dict[str, int | None]:
        """Returns the size of each file in bytes, None where it is missing; UNKNOWN in a bucket."""
        if self.local:
            root = os.path.expanduser(self.root)
            paths = {key: os.path.join(root, key) for key in keys}
            return {key: os.path.getsize(path) if os.path.exists(path) else None for key, path in paths.items()}
        there = set(self.keys())
        return {key: UNKNOWN if key in there else None for key in keys}

    def delete(self, inside: str = "") -> None:
        """Deletes every file under the folder `inside` (or everything)."""
        self._files(inside).delete_range(tensorstore.KvStore.KeyRange()).result()
        if self.local:
            # Its empty folders too.
            shutil.rmtree(os.path.join(os.path.expanduser(self.root), inside), ignore_errors=True)

    def delete_file(self, key: str) -> None:
        """Deletes the file `key` if it is there."""
        self._files().write(key, None).result()

    def _files(self, inside: str = "") -> tensorstore.KvStore:
        return tensorstore.KvStore.open(self.spec(inside)).result()
