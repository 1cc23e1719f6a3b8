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
KILLS, MLM, FROZEN = 10, 28, 20


def command(store, workdir):
    overrides = {"STORE": f"'{store}'", "VOCABULARY": 384, "MLM_STEPS": MLM, "FROZEN_STEPS": FROZEN, "SAVE_STEPS": 2}
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


def progress(workdir, *, begun=False):
    """Steps saved so far in both stages; with `begun`, a save under way counts too."""
    total = 0
    for stage in ("mlm", "frozen"):
        names = [path.name for path in workdir.glob(f"{stage}/checkpoints/*")]
        saved = [int(name) for name in names if name.isdigit()]
        under_way = [int(name.split(".")[0]) for name in names if not name.isdigit()] if begun else []
        total += max([0, *saved, *under_way])
    return total


def test_killed_anywhere_equals_uninterrupted(store, tmp_path, environment):
    subprocess.run(command(store, tmp_path / "whole"), cwd=ROOT, env=environment, check=True, capture_output=True)
    seed = random.SystemRandom().randrange(10**6)
    draw, kills, runs = random.Random(seed), 0, 0
    print(f"seed {seed}")
    while kills < KILLS:
        workdir, runs, ended = tmp_path / f"killed{runs}", runs + 1, False
        while not ended:
            # Mid-save, or some random time after one: then it is in a step, in the handoff, between the stages.
            goal, mid_save, wait = (
                progress(workdir) + 2 * draw.randint(1, 4),
                draw.random() < 0.5,
                draw.uniform(0, 0.15),
            )
            with (tmp_path / "stderr").open("w+") as said:
                process = subprocess.Popen(
                    command(store, workdir), cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=said
                )
                while process.poll() is None and progress(workdir, begun=mid_save) < goal:
                    time.sleep(0.002)
                time.sleep(0 if mid_save else wait)
                ended = process.poll() is not None
                process.send_signal(signal.SIGKILL)
                process.wait()
            assert not ended or process.returncode == 0, (seed, kills, (tmp_path / "stderr").read_text()[-3000:])
            kills += not ended
            print(f"{'ended' if ended else 'killed'} at {progress(workdir)} of {MLM + FROZEN} steps")
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
