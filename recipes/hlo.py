"""A compiled program's text: computations, instructions, shapes, and how often each computation runs.

XLA's `cost_analysis` counts the body of a loop once; layers here are loops, so what a step costs is counted from the
text, every computation as often as it runs.
"""

import collections
import dataclasses
import math
import re
from collections.abc import Iterator, Mapping

WIDTHS = {"pred": 1, "token": 0, "bf16": 2, "f16": 2, "f32": 4, "f64": 8, "c64": 8}
_SHAPE = re.compile(r"([a-z]\w*)\[([\d,]*)\](\{[^}]*\})?")
_OPERATION = re.compile(r"\s*([\w-]+)\(")


@dataclasses.dataclass(frozen=True)
class Shape:
    """An array's shape: type, sides, and whether it lies in the chip's main memory (not in its fast scratch)."""

    dtype: str
    sides: tuple[int, ...]
    main: bool = True

    @property
    def bytes(self) -> int:
        """Its size."""
        return int(math.prod(self.sides) * _width(self.dtype))


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line: `%name = shapes operation(operands), rest`."""

    name: str
    shapes: tuple[Shape, ...]
    operation: str
    operands: tuple[str, ...]
    literal: str
    rest: str
    root: bool

    def called(self, what: str) -> str | None:
        """The computation that it names as `calls`, `body`, `condition` or `to_apply`."""
        found = re.search(rf"\b{what}=%([\w.-]+)", self.rest)
        return found.group(1) if found else None


@dataclasses.dataclass(frozen=True)
class Program:
    """The computations by name, each its instructions by name, in order."""

    entry: str
    computations: Mapping[str, Mapping[str, Instruction]]

    def runs(self) -> tuple[dict[str, float], list[str]]:
        """How often each computation runs in one step, and the loops whose count couldn't be read (counted once)."""
        times: dict[str, float] = collections.defaultdict(float)
        unknown: list[str] = []

        def visit(name: str, count: float) -> None:
            times[name] += count
            for line in self.computations[name].values():
                if line.operation == "while":
                    trips = self.trips(line)
                    if trips is None:
                        unknown.append(line.name)
                    visit(str(line.called("body")), count * (1 if trips is None else trips))
                    continue
                for inner in self.inner(line):
                    visit(inner, count)

        visit(self.entry, 1)
        return dict(times), unknown

    def inner(self, line: Instruction) -> Iterator[str]:
        """Computations that an instruction other than a loop runs once; a reduction's scalar function is none."""
        if line.operation in ("fusion", "call", "custom-call") or line.operation.startswith("async-start"):
            found = line.called("calls") or (line.called("to_apply") if line.operation == "call" else None)
            if found is not None:
                yield found
        if line.operation == "conditional":
            branches = re.search(r"branch_computations=\{([^}]*)\}", line.rest)
            names = re.findall(r"%([\w.-]+)", branches.group(1)) if branches else []
            yield from names or re.findall(r"(?:true|false)_computation=%([\w.-]+)", line.rest)

    def trips(self, loop: Instruction) -> int | None:
        """How often a loop runs: as the compiler wrote down, or by the bound of its counter, which begins at 0."""
        known = re.search(r'known_trip_count":\{"n":"(\d+)"', loop.rest)
        if known:
            return int(known.group(1))
        lines = dict(self.computations[str(loop.called("condition"))])
        for line in tuple(lines.values()):
            for inner in self.inner(line):
                lines |= self.computations[inner]
        compared = [line for line in lines.values() if line.operation == "compare"]
        bounds = {line.literal for line in lines.values() if line.operation == "constant" and line.literal.isdigit()}
        if len(compared) == len(bounds) == 1 and "direction=LT" in compared[0].rest:
            counters = [index for name in compared[0].operands if (index := _index(lines.get(name))) is not None]
            return -(-int(bounds.pop()) // (self._step(loop, counters[0]) if counters else 1))
        return None

    def _step(self, loop: Instruction, counter: int) -> int:
        """What a loop's body adds to its counter, an element of its tuple; 1 where that isn't a sum with a constant."""
        body = self.computations[str(loop.called("body"))]
        root = next(line for line in body.values() if line.root)
        added = body.get(root.operands[counter]) if root.operation == "tuple" else None
        if added is None or added.operation != "add":
            return 1
        terms = [body[name] for name in added.operands]
        steps = [int(line.literal) for line in terms if line.operation == "constant" and line.literal.isdigit()]
        return steps[0] if len(steps) == 1 and counter in [_index(line) for line in terms] else 1


def _index(line: Instruction | None) -> int | None:
    """Which element of a tuple an instruction takes; None of any other."""
    found = re.search(r"\bindex=(\d+)", line.rest) if line and line.operation == "get-tuple-element" else None
    return int(found.group(1)) if found else None


def parse(text: str) -> Program:
    """Reads what `jax.stages.Compiled.as_text` gives."""
    computations: dict[str, dict[str, Instruction]] = {}
    entry, lines = "", {}
    for raw in text.splitlines():
        head = re.match(r"(ENTRY )?%([\w.-]+) \(.*\{$", raw)
        if head:
            lines = computations.setdefault(head.group(2), {})
            entry = head.group(2) if head.group(1) else entry
            continue
        found = re.match(r"\s+(ROOT )?%([\w.-]+) = (.*)$", raw)
        if found:
            lines[found.group(2)] = _instruction(found.group(2), found.group(3), bool(found.group(1)))
    return Program(entry, computations)


def shapes(text: str) -> tuple[Shape, ...]:
    """The arrays of a type, a tuple's each."""
    return tuple(
        Shape(kind, tuple(int(side) for side in sides.split(",") if side), "S(" not in (layout or ""))
        for kind, sides, layout in _SHAPE.findall(text)
    )


def _instruction(name: str, text: str, root: bool) -> Instruction:
    end = _closing(text, 0) if text.startswith("(") else text.index(" ")
    kind = _OPERATION.match(text, end)
    assert kind is not None, text[:200]
    close = _closing(text, kind.end() - 1)
    inside = text[kind.end() : close - 1]
    return Instruction(
        name=name,
        shapes=shapes(text[:end]),
        operation=kind.group(1),
        operands=tuple(re.findall(r"%([\w.-]+)", inside)),
        literal=inside,
        rest=text[close:],
        root=root,
    )


def _closing(text: str, start: int) -> int:
    """The place behind the bracket that closes the one at `start`."""
    depth = 0
    for place in range(start, len(text)):
        depth += (text[place] == "(") - (text[place] == ")")
        if depth == 0:
            return place + 1
    raise ValueError(f"a bracket isn't closed: {text[start : start + 80]}")


def _width(dtype: str) -> float:
    if dtype in WIDTHS:
        return WIDTHS[dtype]
    bits = re.search(r"\d+", dtype)
    return int(bits.group()) / 8 if bits else 1
