"""docs/tpu.md's table: every shipped full-size recipe has its rows, and they are what the compiler says."""

import importlib.util
import re

import jax
import pytest

from recipes import config, topology

SHIPPED = [path.relative_to(config.ROOT / "gin" / "recipes").with_suffix("").as_posix() for path in config.shipped()]
ABLATIONS = [name for name in SHIPPED if name.startswith("reuse/ablations/")]
FULL = [name for name in SHIPPED if name != "demo" and "small/" not in name and name not in ABLATIONS]
spec = importlib.util.spec_from_file_location("tpu", config.ROOT / "docs" / "tpu.py")
assert spec is not None and spec.loader is not None
tpu = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tpu)


def stages(name):
    needed = "STORE = %gin.REQUIRED" in (config.ROOT / "gin" / "recipes" / f"{name}.gin").read_text()
    return config.load(name, [tpu.STORE] if needed else []).value.stages


def figures(line):
    """The bound and the numbers of a line but for the seconds that compiling took, which are the machine's."""
    cells = [cell.strip() for cell in line.split("|")[2:-2]]
    return cells[3], [float(number.replace(",", "")) for cell in cells[1:] for number in re.findall(r"[\d.,]+", cell)]


def test_every_full_size_recipe_has_a_row_for_each_stage():
    assert set(tpu.ROWS) == set(FULL), "docs/tpu.py names a slice for each shipped full-size recipe"
    wanted = {f"{name}, {stage.name}" for name in FULL for stage in stages(name)}
    assert wanted == set(tpu.read()), "run docs/tpu.py --write RECIPE for what is missing"


def test_the_ablations_share_the_programs_of_the_whole():
    def program(stage):
        spec = stage.data.spec(stage.batch)
        return stage.model, stage.frozen, stage.batch, stage.accumulate, spec, stage.loss, type(stage.optimizer)

    whole = [program(stage) for stage in stages("reuse/nemotron_15b")]
    for name in ABLATIONS:
        assert all(program(stage) in whole for stage in stages(name)), name


@pytest.mark.skipif(not topology.available(), reason=f"needs libtpu: pip install libtpu=={topology.LIBTPU}")
@pytest.mark.slow
@pytest.mark.parametrize("name", FULL)
def test_the_rows_are_what_the_compiler_says(name):
    page = tpu.read()
    # The tests' strictness changes a program's text; this is the program that a run compiles.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        rows = list(tpu.rows(name))
    for place, line in rows:
        bound, numbers = figures(page[place])
        found, now = figures(line)
        assert bound == found and now == pytest.approx(numbers, rel=0.02, abs=0.006), f"{place}\n{page[place]}\n{line}"
