"""A resolved recipe's gin text as data: each binding's value, the stages in order. The text is read, never run.

`recipes/config.py` writes the text: fully resolved, one `scope/module.Class.field = value` each, macros apart.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from typing import Any

_BINDING = re.compile(r"([\w./-]+) = ?(.*)")
_REFERENCE = re.compile(r"@((?:[\w.-]+/)*)([\w.]+)\(\)")


class Bindings(Mapping[str, str]):
    """The text of every binding, by its key."""

    def __init__(self, text: str):
        """Reads `text`; lines that are no bindings (imports, comments) are left out."""
        self._found: dict[str, str] = {}
        key = None
        for line in text.splitlines():
            start = _BINDING.fullmatch(line.rstrip())
            if start:
                key = start[1]
                self._found[key] = start[2].removesuffix("\\").strip()
            elif key is not None and line[:1].isspace() and line.strip():
                self._found[key] = f"{self._found[key]} {line.strip().removesuffix(chr(92)).strip()}".strip()
            else:
                key = None

    def __getitem__(self, key: str) -> str:
        """The text of one binding."""
        return self._found[key]

    def __iter__(self) -> Iterator[str]:
        """The keys, in the order of the text."""
        return iter(self._found)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._found)

    def value(self, key: str) -> Any:
        """The value of a binding, macros replaced; None where it isn't bound or is no literal."""
        text = self._found.get(key)
        for _ in range(len(self._found)):
            if text is None or not text.startswith("%"):
                break
            text = self._found.get(text[1:])
        try:
            return None if text is None else ast.literal_eval(text)
        except (ValueError, SyntaxError):
            return None

    def reference(self, key: str, scope: str) -> tuple[str, str] | None:
        """Scope and class of the object that a binding constructs; one without a scope is built under `scope`."""
        found = _REFERENCE.fullmatch(self._found.get(key, ""))
        return (found[1].rstrip("/") or scope, found[2]) if found else None

    def stages(self) -> dict[str, str]:
        """The scope of each stage of the recipe by the stage's name, in order."""
        found: dict[str, str] = {}
        for scope, name in _REFERENCE.findall(self._found.get("recipe.Recipe.stages", "")):
            if name.split(".")[-1] == "Stage":
                scope = scope.rstrip("/")
                found[str(self.value(f"{scope}/{name}.name") or scope)] = scope
        return found
