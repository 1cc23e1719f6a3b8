"""One grammar for naming parameters: a regular expression that must match the whole path `a/b/kernel`.

Handoffs, freezing, weight decay and sharding overrides all address parameters this way. The first pattern that
matches wins, and a pattern that matches nothing is an error, because it is always a misspelling.
"""

import difflib
import re
from collections.abc import Iterable, Sequence


def matches(pattern: str, path: str) -> re.Match[str] | None:
    """The match of `pattern` against all of `path`, or None."""
    return re.fullmatch(pattern, path)


def check(pattern: str, what: str) -> None:
    """Raises ValueError when `pattern` can't be a path pattern; `what` names the place it stands in."""
    if pattern.startswith("/"):
        raise ValueError(f"{what}: pattern {pattern!r} begins with '/'; paths don't: write {pattern[1:]!r}")
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{what}: pattern {pattern!r} is no regular expression: {error}") from None


def select(patterns: Sequence[str], paths: Iterable[str], what: str) -> frozenset[str]:
    """The paths that some pattern matches; raises ValueError for a pattern that matches none of them."""
    paths = tuple(paths)
    chosen: set[str] = set()
    for pattern in patterns:
        check(pattern, what)
        found = [path for path in paths if matches(pattern, path)]
        if not found:
            raise ValueError(f"{what}: pattern {pattern!r} matches no parameter{nearest(pattern, paths)}")
        chosen.update(found)
    return frozenset(chosen)


def nearest(name: str, names: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the valid name closest to `name`, or the empty string when none is close."""
    names = sorted(set(names))
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; there are: {', '.join(names)}" if 0 < len(names) <= 12 else ""
