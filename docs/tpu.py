"""Compiles the shipped recipes for the slices that they suit and writes the table of docs/tpu.md.

    python docs/tpu.py                    the table; minutes of processor time a row, kept between calls
    python docs/tpu.py --write            into docs/tpu.md, between its markers, each row as soon as it is known
    python docs/tpu.py --write metro/xxl  the rows of some recipes alone; the others stay as they are

No TPU is needed, `libtpu` is (docs/tpu.md). tests/recipes/test_tpu_table.py compares the page with the compiler.
"""

import argparse
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

import jax

from recipes import config, recipe, sliceplan, topology

PAGE = pathlib.Path(__file__).with_suffix(".md")
STORE = "STORE='stores/none'"
KERNEL = "encoder/stack.Stack.attention='bucketed'"
SMALL = ("BATCH=128", "Mesh.data=-1", KERNEL)
SPLIT = ("Mesh.data=1", "Mesh.fsdp=-1")
WIDE = (*SPLIT, "Stack.remat='full'")
FULL, QUICK = "UNKNOWN", "O1"
"""Levels of `jax_optimization_level`: the compiler's own, and one that takes a quarter of the time (docs/tpu.md)."""
ROWS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "t5_1_1_base": ("v5e:2x4", SMALL, FULL),
    "t5_1_1_large": ("v5e:8x8", (KERNEL,), FULL),
    "t5_1_1_xl": ("v5e:16x16", (KERNEL,), FULL),
    "t5_1_1_xxl": ("v5e:16x16", (KERNEL,), FULL),
    "bert_large": ("v5e:8x8", (), FULL),
    "metro/base": ("v5e:16x16", (), QUICK),
    "metro/fast_electra": ("v5e:16x16", (), QUICK),
    "metro/fast_electra_offline": ("v5e:16x16", (), QUICK),
    "metro/electra_base": ("v5e:4x4", (), QUICK),
    "metro/metro_t0_base": ("v5e:16x16", (), QUICK),
    "metro/base_plus_plus": ("v5e:16x16", (), QUICK),
    "metro/large": ("v5e:16x16", SPLIT, QUICK),
    "metro/large_plus_plus": ("v5e:16x16", SPLIT, QUICK),
    "metro/xl": ("v5e:16x16", (), QUICK),
    "metro/xxl": ("v5e:16x16", (), FULL),
    "reuse/nemotron_15b": ("v5p:2x4x4", (), QUICK),
    "reuse/decoder": ("v5e:4x4", (), QUICK),
    "reuse/encoder": ("v5e:4x4", (), QUICK),
    "reuse/seq2seq": ("v5e:4x4", (), QUICK),
    "mlm_then_seq2seq": ("v5e:4x4", (), QUICK),
    "causal_lm": ("v5e:8x8", (), QUICK),
    "soltan2023/two_stage_bart_12e12d_unfrz": ("v5e:16x16", WIDE, FULL),
    "soltan2023/two_stage_bart_12e12d": ("v5e:16x16", WIDE, QUICK),
    "soltan2023/two_stage_bart_12e12d_attn_f": ("v5e:16x16", WIDE, QUICK),
    "soltan2023/two_stage_t5_12e12d_unfrz": ("v5e:16x16", WIDE, QUICK),
    "soltan2023/roberta_12e": ("v5e:16x16", WIDE, QUICK),
    "soltan2023/bart_12e12d": ("v5e:16x16", WIDE, QUICK),
    "soltan2023/bart_12e12d_mask": ("v5e:16x16", WIDE, QUICK),
    "soltan2023/bart_12e12d_mlm": ("v5e:16x16", WIDE, QUICK),
    "soltan2023/bart_12e1d_mask": ("v5e:16x16", WIDE, QUICK),
    "soltan2023/bart_12e2d": ("v5e:16x16", WIDE, QUICK),
    "soltan2023/bart_12e2d_mask": ("v5e:16x16", WIDE, QUICK),
    "soltan2023/t5_12e12d": ("v5e:16x16", WIDE, QUICK),
    "metro/metro_then_seq2seq": ("v5e:4x4", (), QUICK),
    "decoder_then_encoder": ("v5e:4x4", (), QUICK),
    "decoder_then_seq2seq": ("v5e:4x4", (), QUICK),
    "encoder_then_decoder": ("v5e:4x4", (), QUICK),
    "seq2seq_then_encoder": ("v5e:4x4", (), QUICK),
}
"""By recipe: the slice, what is bound otherwise than in its file, and how hard the compiler tries."""
HEAD = (
    "| recipe, stage | slice | HBM, GiB of | at least, ms a step | bound | MFU at most | program / model FLOPs | "
    "chip-hours | compiled, s of processor |",
    "|---|---|---|---|---|---|---|---|---|",
)
BEGIN, END = "<!-- table: python docs/tpu.py --write -->\n", "<!-- end of table -->"


def rows(name: str) -> Iterator[tuple[str, str]]:
    """Each stage of a recipe, as "recipe, stage", and its line, compiled one after another."""
    slice_, bindings, level = ROWS[name]
    needed = [STORE] if "STORE = %gin.REQUIRED" in (config.ROOT / "gin" / "recipes" / f"{name}.gin").read_text() else []
    of: recipe.Recipe = config.load(name, [*needed, *bindings]).value
    jax.config.update("jax_optimization_level", level)
    try:
        found = sliceplan.of_stages(of, [topology.parse(slice_)], lambda line: print(line, file=sys.stderr))
    finally:
        jax.config.update("jax_optimization_level", FULL)
    for one in found:
        yield f"{name}, {one['name']}", row(name, one)


def read() -> dict[str, str]:
    """The page's lines by "recipe, stage"."""
    lines = PAGE.read_text().split(BEGIN)[1].split(END)[0].splitlines()[len(HEAD) :]
    return {line.split("|")[1].strip(): line for line in lines}


def write(lines: dict[str, str]) -> None:
    """Puts the lines into the page, in the order of ROWS."""
    order = list(ROWS)
    ranked = sorted(lines, key=lambda line: order.index(line.split(", ")[0]))
    text = "\n".join([*HEAD, *(lines[line] for line in ranked)]) + "\n"
    before, rest = PAGE.read_text().split(BEGIN)
    PAGE.write_text(before + BEGIN + text + END + rest.split(END)[1])


def row(name: str, one: dict[str, Any]) -> str:
    """One stage's line."""
    quick = ", O1" if ROWS[name][2] == QUICK else ""
    head = f"| {name}, {one['name']} | {one['topology']}{quick} "
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", default=list(ROWS), metavar="RECIPE", help="default: all of ROWS")
    parser.add_argument("--write", action="store_true", help="into docs/tpu.md")
    arguments = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    for name in arguments.recipes:
        for place, line in rows(name):
            print(line, flush=True)
            if arguments.write:
                write(read() | {place: line})


if __name__ == "__main__":
    main()
