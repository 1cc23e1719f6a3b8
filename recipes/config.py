"""From gin files to a Recipe: the only file that imports gin.

Gin only constructs frozen dataclasses. It is parsed once; unknown, unused, misspelt and ill-typed bindings are refused
with the nearest valid name; the resolved text and its hash go into every manifest; then gin is forgotten.
"""

import contextlib
import dataclasses
import hashlib
import logging
import pathlib
import re
import tempfile
import tokenize
import traceback
import types
import typing
from collections.abc import Iterator, Sequence
from typing import Any

from gin import config as gin

from recipes import paths, problems, recipe

_FAULTS = (ValueError, TypeError, SyntaxError, ImportError, OSError, RuntimeError, AttributeError, tokenize.TokenError)
ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGES = ("models", "tasks", "recipes")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Resolved:
    """A value built from gin, with the text that says exactly how.

    Attributes:
      value: the Recipe (or the Handoff, or the data) that was built.
      text: every parameter that took part, defaults included, in gin's own syntax; it can be run as it is.
      hash: sha256 of `text`.
    """

    value: Any
    text: str
    hash: str


def load(
    path: str | pathlib.Path,
    overrides: Sequence[str] = (),
    *,
    overlays: Sequence[str | pathlib.Path] = (),
    of: type = recipe.Recipe,
    folder: str = "recipes",
    scope: str | None = None,
) -> Resolved:
    """Builds what a gin file binds.

    Args:
      path: the file, or the name of a shipped recipe.
      overrides: bindings on top, such as `mlm/Stage.steps=100`.
      overlays: gin files between the two, such as gin/tiny.gin; what they set and the file doesn't use is left alone.
      of: the class to build.
      folder: the folder of gin/ whose files go by their names.
      scope: the gin scope that the file binds it under, where it does so under one.

    Raises:
      recipe.Mistake: one line that names the file, what is wrong, and the nearest valid name.
    """
    path = _find(path, folder)
    with _gin():
        try:
            own = _own(path, overrides)
            gin.parse_config_file(str(path), print_includes_and_imports=False)
            file = gin.config_str()
            _override(file, overrides)
            given = gin.config_str()
            for overlay in overlays:
                gin.parse_config_file(str(_find(overlay)), print_includes_and_imports=False)
            _override(file, overrides)
            missing = re.findall(r"^(\w+) = %gin.REQUIRED$", gin.config_str(), re.MULTILINE)
            if missing:
                hint = " ".join(f'--set "{name}=..."' for name in missing)
                raise recipe.Mistake(f"{path}: {', '.join(missing)} must be set: give {hint}")
            with gin.config_scope(scope):
                value = gin.get_configurable(of)()
        except recipe.Mistake:
            raise
        except _FAULTS as error:
            _check_constructors(error, str(path))
            raise recipe.Mistake(f"{path}: {_one_line(error)}") from error
        _refuse_unused(str(path), given, own, file)
        text = gin.operative_config_str(max_line_length=100)
    _check_types(value, f"{path}: {of.__name__}")
    if isinstance(value, recipe.Recipe):
        for problem in problems.find(value):
            raise recipe.Mistake(f"{path}: {problem}")
    return Resolved(value=value, text=text, hash=hashlib.sha256(text.encode()).hexdigest())


def parse(text: str, where: str, *, of: type = recipe.Recipe) -> Resolved:
    """Builds what gin text binds, such as a resolved text or what recipes/spell.py wrote; `where` is for messages."""
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "recipe.gin"
        file.write_text(text)
        try:
            return load(file, of=of)
        except recipe.Mistake as error:
            raise recipe.Mistake(str(error).replace(str(file), where)) from error


def shipped(folder: str = "recipes") -> list[pathlib.Path]:
    """The gin files of one folder of gin/, sorted."""
    return sorted((ROOT / "gin" / folder).rglob("*.gin"))


def _find(path: str | pathlib.Path, folder: str = "recipes") -> pathlib.Path:
    name = str(path).removesuffix(".gin")
    home = ROOT / "gin" / folder
    for candidate in (pathlib.Path(path), ROOT / path, home / f"{name}.gin"):
        if candidate.is_file():
            return candidate
    names = [file.relative_to(home).with_suffix("").as_posix() for file in shipped(folder)]
    raise recipe.Mistake(
        f"no file {str(path)!r}, none so named in gin/{folder}{paths.nearest(pathlib.Path(path).stem, names)}"
    )


@contextlib.contextmanager
def _gin() -> Iterator[None]:
    """A gin with nothing bound, which finds `include 'gin/…'` from the project's root; cleared on the way out."""
    gin.clear_config()
    gin.add_config_file_search_path(str(ROOT))
    logging.getLogger().addFilter(_heard)
    try:
        yield
    finally:
        gin.clear_config()


def _heard(record: logging.LogRecord) -> bool:
    """Not gin's complaint that an included file isn't in the first place where it looks: it looks elsewhere next."""
    return record.msg != "Path not found: %s"


def _own(path: pathlib.Path, overrides: Sequence[str]) -> str:
    """The bindings of the file itself and of the overrides, without those of the files that it includes."""
    # Parsed whole first: an override may name by itself a class that only an included file imports.
    gin.parse_config_file(str(path), print_includes_and_imports=False)
    gin.clear_config()
    lines = path.read_text().splitlines()
    gin.parse_config([line for line in lines if not line.startswith("include ")])
    _override(gin.config_str(), overrides)
    own = gin.config_str()
    gin.clear_config()
    return own


def _override(file: str, overrides: Sequence[str]) -> None:
    """Parses bindings; by module (`recipe.Save.keep=3`) they may name what is the project's or what `file` imports."""
    imports = [line for line in file.splitlines() if line.startswith(("from ", "import "))]
    for binding in overrides:
        module = re.match(r"(?:[\w./-]*/)?(\w+)\.\w+\.\w+ *=", binding)
        homes = [home for home in PACKAGES if module and (ROOT / home / f"{module[1]}.py").is_file()]
        try:
            gin.parse_config(binding)
        except ValueError:
            with contextlib.suppress(NameError):
                gin.parse_config([*imports, *(f"from {home} import {module[1]}" for home in homes if module), binding])
                continue
            raise


def _one_line(error: BaseException) -> str:
    """What gin or a constructor says, in one line, with the nearest valid name where a name is wrong."""
    text = re.sub(r"\s+", " ", str(error)).strip()
    text, _, call = text.partition(" In call to configurable ")
    scope = re.search(r"in scope '([\w./-]+)'", call)
    where = re.match(r"'([\w.]+)'", call)
    if unknown := re.search(r"Configurable '(?:[\w.]*\.)?(\w+)' doesn't have a parameter named '(\w+)'", text):
        names = [name for cls in _bound_classes() if cls.__name__ == unknown[1] for name in _fields(cls)]
        return f"{unknown[1]} has no parameter {unknown[2]!r}{paths.nearest(unknown[2], names)}"
    if missing := re.search(r"No configurable matching '([\w.]+)'", text):
        names = {cls.__name__ for cls in _bound_classes()}
        return f"nothing is named {missing[1]!r}{paths.nearest(missing[1].split('.')[-1], names)}"
    if lost := re.search(r"missing \d+ required keyword-only arguments?: ('[\w', ]+(?:and '\w+')?)", text):
        name = where[1] if where else text.split(".")[0]
        text = f"{name} needs a value for {lost[1]}; bind it in the file or with --set"
    return f"{text} (in scope {scope[1]!r})" if scope else text


def _bound_classes() -> list[type]:
    """Every dataclass of the project's modules that the parsed text imported."""
    import sys

    modules = [sys.modules[name] for name in list(sys.modules) if name.split(".")[0] in PACKAGES]
    found = {value for module in modules for value in vars(module).values() if dataclasses.is_dataclass(value)}
    return [value for value in found if isinstance(value, type)]


def _fields(cls: type) -> list[str]:
    return [field.name for field in dataclasses.fields(cls)] if dataclasses.is_dataclass(cls) else []


_BINDING = re.compile(r"^(?:([\w./-]+)/)?([\w.]+)\.(\w+) = ", re.MULTILINE)
_MACRO = re.compile(r"^([A-Za-z_]\w*) = ", re.MULTILINE)


def _refuse_unused(path: str, given: str, own: str, file: str) -> None:
    """Raises Mistake for a binding that took no part: gin lets a misspelt scope or an unused macro pass.

    All that are the file's `own` must take part, and of all that is `given` what has a scope: a file that several
    recipes include may set what only some of them use. A macro that the `file` uses, in a binding that was overridden,
    is no mistake.
    """
    used = gin.operative_config_str()
    operative = [(scope.split("/") if scope else [], name, field) for scope, name, field in _BINDING.findall(used)]
    owned = set(_BINDING.findall(own))
    for scope, name, field in _BINDING.findall(given):
        parts = scope.split("/") if scope else []
        if not scope and (scope, name, field) not in owned:
            continue
        if not any((name, field) == key[1:] and key[0][: len(parts)] == parts for key in operative):
            scopes = ["/".join(key[0]) for key in operative if key[1:] == (name, field) and key[0]]
            binding = f"{scope}/{name}.{field}" if scope else f"{name}.{field}"
            raise recipe.Mistake(f"{path}: binding {binding} is used by nothing{paths.nearest(scope, scopes)}")
    macros = set(_MACRO.findall(used)) | set(re.findall(r"%(\w+)", file))
    for name in _MACRO.findall(own):
        if name not in macros:
            raise recipe.Mistake(f"{path}: macro {name} is used by nothing{paths.nearest(name, macros)}")


def _check_constructors(error: BaseException, where: str) -> None:
    """Raises Mistake when a constructor stumbled over a field of a wrong type, which the error itself rarely says."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        value = frame.f_locals.get("self")
        if frame.f_code.co_name == "__post_init__" and dataclasses.is_dataclass(value):
            _check_types(value, f"{where}: {type(value).__name__}")


def _check_types(value: Any, where: str) -> None:
    """Raises Mistake when a field of a dataclass, however deep, holds a value that its annotation doesn't allow."""
    if isinstance(value, tuple | list):
        for index, item in enumerate(value):
            _check_types(item, f"{where}[{index}]")
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return
    hints = typing.get_type_hints(type(value))
    for field in dataclasses.fields(value):
        item = getattr(value, field.name)
        if not _allows(hints[field.name], item):
            wanted = hints[field.name].__name__ if isinstance(field.type, type) else str(field.type)
            raise recipe.Mistake(f"{where}.{field.name} = {item!r} is of type {type(item).__name__}; it takes {wanted}")
        _check_types(item, f"{where}.{field.name}")


def _allows(hint: Any, value: Any) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return value in arguments
    if origin in (typing.Union, types.UnionType):
        return any(_allows(argument, value) for argument in arguments)
    if origin is tuple:
        if not isinstance(value, tuple | list):
            return False
        if len(arguments) == 2 and arguments[1] is ...:
            return all(_allows(arguments[0], item) for item in value)
        return len(value) == len(arguments) and all(_allows(a, item) for a, item in zip(arguments, value))
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint in (None, type(None)):
        return value is None
    if hint is Any:
        return True
    return isinstance(value, hint) if isinstance(hint, type) and origin is None else True
