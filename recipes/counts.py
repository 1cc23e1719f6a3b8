"""What one step of a compiled program does on one device: products, memory traffic and collectives, loops multiplied.

Products are dots and convolutions, which is what the TPU compiler turns dots into. Memory traffic is what top-level
instructions read from and write to main memory; a fused slice of an operand counts as the slice.
"""

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from recipes import hlo

Lines = Mapping[str, hlo.Instruction]
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_FREE = (
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional", "call", "after-all",
    "copy-done", "async-done", "partition-id", "replica-id", "iota",
)  # fmt: skip


@dataclasses.dataclass(kw_only=True)
class Counts:
    """Of one device and one step.

    Attributes:
      flops: of products, recomputed ones included.
      bytes: read from and written to main memory.
      collectives: by kind, bytes of what each device has of the result (of the operand, for a reduce-scatter).
      ici: bytes that a device must send to others of its slice.
      dcn: bytes that a device must send to other slices.
      unknown: what couldn't be counted, in words.
    """

    flops: float = 0.0
    bytes: float = 0.0
    collectives: dict[str, float] = dataclasses.field(default_factory=dict)
    ici: float = 0.0
    dcn: float = 0.0
    unknown: list[str] = dataclasses.field(default_factory=list)


def count(text: str, per_slice: int | None = None, once: bool = False) -> Counts:
    """Counts a program's text.

    Args:
      text: what `jax.stages.Compiled.as_text` gives.
      per_slice: devices of one slice; None for a single slice.
      once: count every loop's body once, as XLA's own figures do.
    """
    program = hlo.parse(text)
    times, unknown = program.runs()
    found = Counts(unknown=[f"loop {name} is counted once: its count can't be read" for name in unknown])
    fused = {str(line.called("calls")) for lines in program.computations.values() for line in lines.values()}
    for name, runs in times.items():
        lines = program.computations[name]
        often = 1 if once else runs
        for line in lines.values():
            kind = line.operation.removesuffix("-start")
            if line.operation in ("dot", "convolution"):
                found.flops += often * product(line, lines)
            elif kind in COLLECTIVES and not _goes_on(line, lines):
                _collective(found, kind, line, lines, often, per_slice)
            elif line.operation == "send" and "megascale" in line.rest:
                # Between slices the compiler hands what each device has to the host, and takes the result from it.
                found.collectives["between slices"] = found.collectives.get("between slices", 0.0) + often * _sent(line)
                found.dcn += often * _sent(line)
            elif line.operation == "custom-call" and "tpu_custom_call" in line.rest:
                found.unknown.append(f"kernel {line.name} has products that can't be seen")
            if name not in fused and line.operation not in _FREE and not line.operation.endswith("-done"):
                found.bytes += often * traffic(line, lines, program)
    return found


def product(line: hlo.Instruction, lines: Lines) -> float:
    """FLOPs of a dot or a convolution, two for each multiply-add that isn't with padding."""
    left, right = (lines[name].shapes[0].sides for name in line.operands[:2])
    out = line.shapes[0].sides
    if line.operation == "dot":
        contracted = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", line.rest)
        sides = [left[int(axis)] for axis in contracted.group(1).split(",") if axis] if contracted else []
        return 2.0 * math.prod(out) * math.prod(sides)
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", line.rest)
    assert labels is not None, line.rest
    ins, kernels, outs = labels.groups()
    spatial = sorted(label for label in kernels if label.isdigit())
    valid = 1
    for place, label in enumerate(spatial):  # a window has its sides in the order of their numbers
        valid *= _pairs(
            left[ins.index(label)],
            right[kernels.index(label)],
            out[outs.index(label)],
            {name: _window(line.rest, name, place, start) for name, start in _WINDOW.items()},
        )
    batches = re.search(r"batch_group_count=(\d+)", line.rest)
    rows = out[outs.index("b")] * out[outs.index("f")] / (int(batches.group(1)) if batches else 1)
    return 2.0 * rows * right[kernels.index("i")] * valid


_WINDOW = {"stride": "1", "pad": "0_0", "lhs_dilate": "1", "rhs_dilate": "1"}


def _window(rest: str, name: str, place: int, default: str) -> str:
    window = re.search(r"window=\{([^}]*)\}", rest)
    found = re.search(rf"\b{name}=(\S+)", window.group(1)) if window else None
    return found.group(1).split("x")[place] if found else default


def _pairs(size: int, kernel: int, out: int, window: dict[str, str]) -> int:
    """Pairs of an output and a kernel place that meet an entry of the input, along one side."""
    stride, inner, outer = (int(window[name]) for name in ("stride", "lhs_dilate", "rhs_dilate"))
    before = int(window["pad"].split("_")[0])
    places = np.arange(out)[:, None] * stride + np.arange(kernel)[None, :] * outer - before
    return int(np.sum((places >= 0) & (places % inner == 0) & (places // inner < size)))


def traffic(line: hlo.Instruction, lines: Lines, program: hlo.Program) -> float:
    """Bytes of main memory that an instruction reads and writes."""
    written = sum(shape.bytes for shape in line.shapes if shape.main)
    operands = [sum(shape.bytes for shape in lines[name].shapes if shape.main) for name in line.operands]
    if line.operation == "dynamic-update-slice":
        return 2.0 * operands[1]
    if line.operation in ("dynamic-slice", "slice", "gather"):
        return 2.0 * min(written, sum(operands))
    if line.operation == "slice-start":
        # Its result names the operand, the slice and a flag: what moves is the slice, out of and into main memory.
        return float(line.shapes[1].bytes * ((operands[0] > 0) + line.shapes[1].main))
    if line.operation in ("copy-start", "async-start"):
        # Its result names the operand, the copy and a flag: what moves is the operand, from or to main memory.
        return float(max(operands, default=0) or written)
    calls = line.called("calls") if line.operation == "fusion" else None
    if calls is None:
        return float(written + sum(operands))
    inside = program.computations[calls]
    total = 0.0
    if any("AsyncCollectiveDone" in inner.rest for inner in inside.values()):
        return total  # what arrives was counted when it set out
    for inner in inside.values():
        if inner.root and inner.operation == "tuple":
            passed = (
                inside[name].operation == "parameter" or _goes_on(inside[name], inside) for name in inner.operands
            )
            written -= sum(shape.bytes for shape, held in zip(line.shapes, passed) if held and shape.main)
        if inner.operation == "parameter" and operands[int(inner.literal)]:
            total += _read(inner.name, operands[int(inner.literal)], inside, program)
        if inner.operation == "dynamic-update-slice" and inner.shapes[0].bytes <= written:
            written -= inner.shapes[0].bytes - inside[inner.operands[1]].shapes[0].bytes
    return total + written


def _read(name: str, whole: float, inside: Lines, program: hlo.Program) -> float:
    """How much of a fused operand is read: what slices take of it, in fusions within too; nothing where it is written
    or passed on.

    What several users take counts for each of them, up to the whole.
    """
    total = 0.0
    for line in inside.values():
        if name not in line.operands or line.operation == "tuple" or _goes_on(line, inside):
            continue
        if line.operation == "dynamic-slice" and line.operands[0] == name:
            total += line.shapes[0].bytes
        elif line.operation == "bitcast":
            total += _read(line.name, whole, inside, program)
        elif line.operation == "fusion":
            within = program.computations[str(line.called("calls"))]
            places = {str(place) for place, operand in enumerate(line.operands) if operand == name}
            parameters = [one.name for one in within.values() if one.operation == "parameter" and one.literal in places]
            total += sum(_read(one, whole, within, program) for one in parameters)
        elif line.operation != "dynamic-update-slice" or line.operands[0] != name:
            return whole
    return min(total, whole)


def _goes_on(line: hlo.Instruction, lines: Lines) -> bool:
    """Whether a collective began elsewhere: one that runs beside products is named in each fusion that it runs beside.

    The fusion that begins it counts, for both its links and its memory.
    """
    return "chain_id=" in line.rest and not any("AsyncCollectiveStart" in other.rest for other in lines.values())


def _collective(
    found: Counts, kind: str, line: hlo.Instruction, lines: Lines, often: float, per_slice: int | None
) -> None:
    groups = members(line.rest)
    into = sum(shape.bytes for name in line.operands for shape in lines[name].shapes)
    size = len(groups[0]) if groups else 2
    result = into * size if kind == "all-gather" else into
    found.collectives[kind] = found.collectives.get(kind, 0.0) + often * result
    if not groups and kind != "collective-permute":
        found.unknown.append(f"{kind} {line.name} names its devices in a way that can't be read: counted as two")
    sent = 1.0 if kind == "collective-permute" else (size - 1) / size * (2 if kind == "all-reduce" else 1)
    across = len({member // per_slice for member in groups[0]}) if groups and per_slice else 1
    if across > 1:
        found.dcn += often * result * (across - 1) / across * (2 if kind == "all-reduce" else 1) / (size / across)
    if across == 1 or size > across:
        found.ici += often * result * sent


def _sent(line: hlo.Instruction) -> int:
    return line.shapes[0].bytes


def members(rest: str) -> list[list[int]]:
    """The groups of devices between which a collective exchanges; empty where they can't be read."""
    listed = re.search(r"replica_groups=\{(\{[\d,{}]*\})\}", rest)
    if listed:
        return [[int(one) for one in group.split(",")] for group in re.findall(r"\{([\d,]+)\}", listed.group(1))]
    iota = re.search(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", rest)
    if iota:
        shape, sides, turned = ([int(one) for one in text.split(",")] if text else None for text in iota.groups())
        numbers: Any = np.arange(math.prod(sides or [])).reshape(sides)
        groups: Any = (numbers.transpose(turned) if turned else numbers).reshape(shape).tolist()
        return groups
    named = re.search(r"replica_groups=mesh\[([^\]]*)\](.*?) \{([^}]*)\}", rest)
    if named and not named.group(2):
        sizes = {name: int(size) for name, size in re.findall(r"'(\w+)'=(\d+)", named.group(1))}
        over = re.findall(r"'(\w+)'", named.group(3))
        order = [*(name for name in sizes if name not in over), *over]
        numbers = np.arange(math.prod(sizes.values())).reshape(tuple(sizes.values()))
        turned = numbers.transpose([list(sizes).index(name) for name in order])
        return turned.reshape(-1, math.prod(sizes[name] for name in over)).tolist()
    return []
