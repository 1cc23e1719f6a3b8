"""SIGKILL at random moments of a two-stage run: the same command ends with the same bits as an uninterrupted run."""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).parent.parent.parent
KILLS = 12


def command(store, workdir):
    overrides = {"STORE": f"'{store}'", "VOCABULARY": 384, "MLM_STEPS": 60, "FROZEN_STEPS": 40, "SAVE_STEPS": 4}
    given = [word for name, value in overrides.items() for word in ("--set", f"{name}={value}")]
    return [
        sys.executable, "-m", "recipes.cli", "run", "mlm_then_seq2seq", "--overlay", "gin/tiny.gin",
        "--until", "frozen", "--workdir", str(workdir), *given,
    ]  # fmt: skip


def digests(workdir):
    return [json.loads((workdir / stage / "done").read_text())["params_digest"] for stage in ("mlm", "frozen")]


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    cache = os.environ.get("JAX_COMPILATION_CACHE_DIR", "/tmp/baton_jax_cache")
    return {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": cache}


def test_killed_anywhere_equals_uninterrupted(store, tmp_path, environment):
    began = time.monotonic()
    subprocess.run(command(store, tmp_path / "whole"), cwd=ROOT, env=environment, check=True, capture_output=True)
    # Once more with a warm compilation cache: this is how long a run takes, so that kills fall anywhere in it.
    began = time.monotonic()
    subprocess.run(command(store, tmp_path / "again"), cwd=ROOT, env=environment, check=True, capture_output=True)
    seconds = time.monotonic() - began
    assert digests(tmp_path / "whole") == digests(tmp_path / "again")
    seed = random.SystemRandom().randrange(10**6)
    draw, kills, finished = random.Random(seed), 0, 0
    print(f"seed {seed}, an uninterrupted run takes {seconds:.1f} s")
    workdir = tmp_path / "killed0"
    while kills < KILLS:
        said = (tmp_path / "stderr").open("w+")
        process = subprocess.Popen(
            command(store, workdir), cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=said
        )
        # The first seconds are imports, where a kill proves nothing: draw from the rest.
        wait = draw.uniform(0.35, 1.0) * seconds
        try:
            assert process.wait(timeout=wait) == 0, (seed, kills, (tmp_path / "stderr").read_text()[-3000:])
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            print(f"killed after {wait:.2f} s: {sorted(p.name for p in workdir.glob('*/checkpoints/*'))}")
            continue
        assert digests(workdir) == digests(tmp_path / "whole"), f"seed {seed}, after {kills} kills"
        finished += 1
        workdir = tmp_path / f"killed{finished}"
    subprocess.run(command(store, workdir), cwd=ROOT, env=environment, check=True, capture_output=True)
    assert digests(workdir) == digests(tmp_path / "whole"), f"seed {seed}, after {kills} kills"


def test_a_store_killed_and_built_again_is_the_same(tmp_path, environment):
    """`baton store`, killed while it builds; tests/tasks/test_tokenize.py looks inside."""
    draw = random.Random(1)
    words = ["".join(draw.choices("abcdefgh", k=5)) for _ in range(2000)]
    text = tmp_path / "text.txt"
    text.write_text("\n".join(" ".join(draw.choices(words, k=40)) for _ in range(30_000)))
    build = [
        sys.executable,
        "-m",
        "recipes.cli",
        "store",
        str(text),
        "--vocabulary",
        "bytes",
        "--processes",
        "1",
        "--out",
    ]
    subprocess.run([*build, str(tmp_path / "whole")], cwd=ROOT, env=environment, check=True, capture_output=True)
    for wait in (1.2, 1.6, 2.0):
        process = subprocess.Popen(
            [*build, str(tmp_path / "killed")], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL
        )
        time.sleep(wait)
        process.kill()
        process.wait()
    subprocess.run([*build, str(tmp_path / "killed")], cwd=ROOT, env=environment, check=True, capture_output=True)
    one, other = (json.loads((tmp_path / name / "text" / "manifest.json").read_text()) for name in ("whole", "killed"))
    assert one["digest"] == other["digest"] and one["tokens"] == other["tokens"]
