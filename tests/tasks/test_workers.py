import hashlib
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest

from tasks import sources, store, tokenize

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    root = tmp_path_factory.mktemp("text")
    rng = random.Random(0)
    for name in ("de", "en"):
        texts = [" ".join(rng.choices(["ein", "zwei", "drei"], k=rng.randint(1, 60))) for _ in range(400)]
        (root / f"{name}.txt").write_text("\n".join(texts))
    return {name: sources.Lines(files=str(root / f"{name}.txt")) for name in ("de", "en")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, parts):
    """A store built in one go by one process."""
    root = tmp_path_factory.mktemp("whole")
    build(parts, root)
    return root


def build(parts, directory, **options):
    return tokenize.build(
        parts, "bytes", directory, **{"processes": 1, "slice_characters": 4000, "validation": 0.05, **options}
    )


def contents(directory):
    """Every file below, by its digest."""
    found = [path for path in pathlib.Path(directory).rglob("*") if path.is_file()]
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


SCRIPT = """
import sys
from tasks import sources, tokenize
if __name__ == "__main__":
    text, directory, processes, count = sys.argv[1:]
    parts = {name: sources.Lines(files=f"{text}/{name}.txt") for name in ("de", "en")}
    told = []
    def tell(state):
        told.append(state)
        print(len(told), flush=True)
        if len(told) == int(count):
            sys.stdin.read()
    tokenize.build(
        parts, "bytes", directory, processes=int(processes), slice_characters=4000, validation=0.05, progress=tell
    )
    assert not {"tensorflow", "seqio", "jax"} & set(sys.modules)
"""


def kill_after(count, processes, text, directory, script):
    """Builds until `count` reports, kills the process, and returns the processes that it had started."""
    arguments = [str(a) for a in (script, text, directory, processes, count)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    running = subprocess.Popen(
        [sys.executable, *arguments], stdout=subprocess.PIPE, stdin=subprocess.PIPE, env=environment, text=True
    )
    assert running.stdout is not None
    for line in running.stdout:
        if line.strip() == str(count):
            break
    children = pathlib.Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
    running.send_signal(signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    return [int(child) for child in children]


def alive(process):
    try:
        return pathlib.Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_killed_again_and_again_the_store_is_the_same(tmp_path, whole, parts):
    script, directory = tmp_path / "build.py", tmp_path / "store"
    script.write_text(SCRIPT)
    text = pathlib.Path(parts["de"].files).parent
    started = []
    for count, processes in ((1, 2), (5, 1), (9, 2)):
        started += kill_after(count, processes, text, directory, script)
        finished = set(store.parts(directory)) if (directory / "vocabulary.json").exists() else set()
        assert finished != {"de", "en"}
    states = []
    build(parts, directory, progress=states.append)
    assert contents(directory) == contents(whole)
    # What the killed ones had finished was not done again.
    assert len([state for state in states if state.state == "spelling"]) < 0.8 * 2 * 11
    assert len(started) >= 2
    deadline = time.monotonic() + 20
    while any(map(alive, started)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(alive, started))


MEMORY = """
import re, sys
from tasks import sources, tokenize
tokenize.build({"a": sources.Lines(files=sys.argv[1])}, "bytes", sys.argv[2], processes=1)
print(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
"""


def test_memory_does_not_grow_with_the_corpus(tmp_path):
    peaks = []
    for megabytes in (16, 64):
        path = tmp_path / f"{megabytes}.txt"
        with path.open("w") as file:
            for number in range(megabytes * 1000):
                file.write(f"{number:09d} " * 100 + "\n")
        arguments = [sys.executable, "-c", MEMORY, str(path), str(tmp_path / f"{megabytes}")]
        peaks.append(int(subprocess.check_output(arguments, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})))
        path.unlink()
    # A store of 64 MB of bytes is 128 MB of tokens: none of the growth may be in memory.
    assert peaks[1] < peaks[0] + 40_000
    assert peaks[1] < 600_000
