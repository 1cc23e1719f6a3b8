"""How one stage's parameters become another's: a pure plan on abstract trees, then its execution leaf by leaf.

The same plan serves the run, the offline converter and the dry run. It is total both ways: every parameter of the
target is taken or fresh, every parameter of the source read or dropped, every rule matches something. A handoff may
change names and values, never a shape or dtype behind one's back, and it is skipped when a stage resumes.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from recipes import paths, recipe, transforms


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sum:
    """What a source offers beside its own parameters: a path whose value is the sum of theirs at `of`."""

    shape: tuple[int, ...]
    dtype: Any
    of: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """One parameter of the target: where its value comes from.

    Attributes:
      target: its path.
      source: the path that is read, or None for a fresh one.
      shape: the target's shape.
      by: the change of value, or None for the value as it is.
      of: the source's parameters whose sum is read, where `source` isn't one of them.
    """

    target: str
    source: str | None
    shape: tuple[int, ...]
    by: Any = None
    of: tuple[str, ...] = ()

    @property
    def identity(self) -> bool:
        """Whether the value arrives under the same path and unchanged."""
        return self.source == self.target and self.by is None and not self.of

    @property
    def reads(self) -> tuple[str, ...]:
        """The source's own parameters that are read."""
        return self.of or (() if self.source is None else (self.source,))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What a handoff will do.

    Attributes:
      entries: one a target parameter, sorted by path.
      dropped: source parameters left behind, with their shapes.
      problems: why it can't be done; empty when it can.
    """

    entries: tuple[Entry, ...]
    dropped: tuple[tuple[str, tuple[int, ...]], ...]
    problems: tuple[str, ...]

    @property
    def taken(self) -> tuple[Entry, ...]:
        """The entries that read the source."""
        return tuple(entry for entry in self.entries if entry.source is not None)

    @property
    def fresh(self) -> tuple[Entry, ...]:
        """The entries that keep their initial values."""
        return tuple(entry for entry in self.entries if entry.source is None)

    def json(self) -> dict[str, Any]:
        """The plan as JSON: every target and its source, and parameter counts of what is copied, fresh and dropped."""
        return {
            "parameters": {
                "copied": sum(math.prod(entry.shape) for entry in self.taken),
                "fresh": sum(math.prod(entry.shape) for entry in self.fresh),
                "dropped": sum(math.prod(shape) for _, shape in self.dropped),
            },
            "taken": [
                {
                    "target": e.target,
                    "source": " + ".join(e.reads),
                    "shape": list(e.shape),
                    "by": repr(e.by) if e.by else None,
                }
                for e in self.taken
            ],
            "reports": self.reports(),
            "fresh": [{"target": e.target, "shape": list(e.shape)} for e in self.fresh],
            "dropped": [{"source": path, "shape": list(shape)} for path, shape in self.dropped],
        }

    def reports(self) -> list[str]:
        """What changes of value have to say, as how many rows of a vocabulary are new; nothing of a faulty plan."""
        return [
            f"{entry.target}: {entry.by.report(entry.shape)}"
            for entry in self.taken
            if hasattr(entry.by, "report") and not self.problems
        ]

    def lines(self) -> list[str]:
        """The plan as text: target, source and shape of each parameter, then the three sums."""
        width = max((len(entry.target) for entry in self.entries), default=0)
        text = []
        for entry in self.entries:
            origin = (" + ".join(entry.reads) or "(fresh)") + (f"  by {entry.by}" if entry.by else "")
            text.append(f"{entry.target:<{width}}  <-  {origin}  {list(entry.shape)}")
        text += [f"{'(dropped)':<{width}}  <-  {path}  {list(shape)}" for path, shape in self.dropped]
        sums = self.json()["parameters"]
        return [*text, *self.reports(), ", ".join(f"{count:,} parameters {name}" for name, count in sums.items())]


def offered(leaves: Mapping[str, Any], sums: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """A source's leaves, and beside them the sums that its model tells of (`models.model.Model.sums`)."""
    made = {
        path: Sum(shape=leaves[of[0]].shape, dtype=leaves[of[0]].dtype, of=tuple(of))
        for path, of in sums.items()
        if path not in leaves and all(each in leaves for each in of)
    }
    return {**leaves, **made}


def plan(handoff: recipe.Handoff, source: Mapping[str, Any], target: Mapping[str, Any]) -> Plan:
    """What `handoff` does between two flat dicts of leaves with `shape` and `dtype`; nothing is read or allocated.

    A `Sum` of the source may be taken, and needn't be.
    """
    problems: list[str] = []
    used: set[str] = set()
    read: set[str] = set()
    entries: list[Entry] = []
    for pattern in (*(take.target for take in handoff.takes), *handoff.fresh, *handoff.drop):
        try:
            paths.check(pattern, "handoff")
        except ValueError as error:
            problems.append(str(error))
    if problems:
        return Plan(entries=(), dropped=(), problems=tuple(problems))
    for path in sorted(target):
        entry = _claim(handoff, path, source, target[path], used, problems)
        if entry is not None:
            entries.append(entry)
            read |= set(entry.reads)
    dropped: list[tuple[str, tuple[int, ...]]] = []
    for path in sorted({path for path, leaf in source.items() if not isinstance(leaf, Sum)} - read):
        rule = next((pattern for pattern in handoff.drop if paths.matches(pattern, path)), None)
        if rule is None:
            problems.append(
                f"source parameter {path} {list(source[path].shape)} is neither read nor dropped; "
                "add it to take or drop"
            )
        else:
            used.add(f"drop {rule}")
            dropped.append((path, tuple(source[path].shape)))
    rules = [f"take {take.target}" for take in handoff.takes]
    rules += [f"fresh {pattern}" for pattern in handoff.fresh] + [f"drop {pattern}" for pattern in handoff.drop]
    for rule in rules:
        if rule not in used:
            kind, pattern = rule.split(" ", 1)
            where = source if kind == "drop" else target
            problems.append(f"rule {kind} {pattern!r} matches nothing{paths.nearest(pattern, where)}")
    return Plan(entries=tuple(entries), dropped=tuple(dropped), problems=tuple(problems))


def _claim(
    handoff: recipe.Handoff, path: str, source: Mapping[str, Any], leaf: Any, used: set[str], problems: list[str]
) -> Entry | None:
    """The entry of one target parameter, first match wins; None, with a problem noted, when there is none."""
    shape = tuple(leaf.shape)
    for pattern in handoff.fresh:
        if paths.matches(pattern, path):
            used.add(f"fresh {pattern}")
            return Entry(target=path, source=None, shape=shape)
    for take in handoff.takes:
        match = paths.matches(take.target, path)
        if match is None:
            continue
        used.add(f"take {take.target}")
        name = match.expand(take.source)
        if name not in source:
            problems.append(f"target {path} takes {name!r}, which the source has not{paths.nearest(name, source)}")
            return None
        fault = _fault(path, leaf, name, source[name], take.by)
        if fault:
            problems.append(fault)
        of = source[name].of if isinstance(source[name], Sum) else ()
        return Entry(target=path, source=name, shape=shape, by=take.by, of=of)
    problems.append(f"target parameter {path} {list(shape)} is neither taken nor fresh; add it to take or fresh")
    return None


def _fault(path: str, leaf: Any, name: str, source: Any, by: Any) -> str | None:
    made = tuple(source.shape)
    if by is not None:
        try:
            made = by.shape(tuple(source.shape), tuple(leaf.shape))
        except ValueError as error:
            return f"target {path} {list(leaf.shape)} from source {name} {list(source.shape)}: {error}"
    if made != tuple(leaf.shape):
        sides = f"target {path} has shape {list(leaf.shape)} and source {name} gives {list(made)}"
        return f"{sides}; give the rule a transform"
    wanted, found = np.dtype(leaf.dtype), np.dtype(source.dtype)
    if wanted != found and not transforms.changes_dtype(by):
        return f"target {path} is {wanted} and source {name} is {found}; add transforms.Cast"
    return None


def execute(plan: Plan, read: Callable[[str], np.ndarray], put: Callable[[str, np.ndarray], Any]) -> dict[str, Any]:
    """Fills the taken parameters one by one, so that memory is bounded by the largest.

    Args:
      plan: a plan without problems.
      read: source path -> its array.
      put: (target path, array of the target's shape) -> what is kept of it.
    """
    filled = {}
    for entry in plan.taken:
        array = functools.reduce(np.add, map(read, entry.reads))
        filled[entry.target] = put(entry.target, array if entry.by is None else entry.by(array, entry.shape))
    return filled
