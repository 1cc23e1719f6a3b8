"""Compiles the shipped recipes for the slices that they suit and writes the table of docs/tpu.md.

    python docs/tpu.py            the table, to standard output; minutes of processor time a row, kept between calls
    python docs/tpu.py --write    into docs/tpu.md, between its markers

No TPU is needed, `libtpu` is (docs/tpu.md). Rows are given up one by one with what the compiler says.
"""

import argparse
import pathlib
import sys
from typing import Any

import jax

from recipes import config, recipe, sliceplan, topology

STORE = "STORE='stores/none'"
KERNEL = "encoder/stack.Stack.attention='bucketed'"
SMALL = ("BATCH=128", "Mesh.data=-1", KERNEL)
WIDE = ("Mesh.data=1", "Mesh.fsdp=-1", "Stack.remat='full'")
ROWS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("t5_1_1_base", "v5e:2x4", SMALL),
    ("t5_1_1_large", "v5e:8x8", (KERNEL,)),
    ("t5_1_1_xl", "v5e:16x16", (KERNEL,)),
    ("t5_1_1_xxl", "v5e:16x16", (KERNEL,)),
    ("bert_large", "v5e:8x8", ()),
    ("soltan2023/two_stage_bart_12e12d_unfrz", "v5e:16x16", WIDE),
)
"""Recipe, slice, bindings."""
HEAD = (
    "| recipe, stage | slice | HBM, GiB of | at least, ms a step | bound | MFU at most | program / model FLOPs | "
    "chip-hours | compiled, s of processor |",
    "|---|---|---|---|---|---|---|---|---|",
)
BEGIN, END = "<!-- table: python docs/tpu.py --write -->\n", "<!-- end of table -->"


def table() -> list[str]:
    """The rows, compiled one after another."""
    lines: list[str] = [*HEAD]
    for name, slice_, bindings in ROWS:
        loaded: recipe.Recipe = config.load(name, [*([STORE] if "/" not in name else []), *bindings]).value
        found = sliceplan.of_stages(loaded, [topology.parse(slice_)], lambda line: print(line, file=sys.stderr))
        lines += [row(name, one) for one in found]
    return lines


def row(name: str, one: dict[str, Any]) -> str:
    """One stage's line."""
    head = f"| {name}, {one['name']} | {one['topology']} "
    if "problem" in one:
        return f"{head}| {one['problem']} | | | | | | |"
    head += f"| {one['hbm_gib']:.2f} of {one['hbm_limit_gib']:.2f} "
    if not one["fits"]:
        return f"{head}| doesn't fit | | | | | {one['compile_cpu_seconds']:.0f} |"
    return (
        f"{head}| {1e3 * one['step_seconds']:.0f} | {one['bound']} | {one['mfu']:.0%} "
        f"| {one['program_flops'] / one['model_flops']:.2f} | {one['chip_hours']:,.0f} "
        f"| {one['compile_cpu_seconds']:.0f} |"
    )


def main() -> None:
    """Prints or writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="into docs/tpu.md")
    arguments = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    text = "\n".join(table()) + "\n"
    print(text, end="")
    if arguments.write:
        page = pathlib.Path(__file__).with_suffix(".md")
        before, rest = page.read_text().split(BEGIN)
        page.write_text(before + BEGIN + text + END + rest.split(END)[1])


if __name__ == "__main__":
    main()
