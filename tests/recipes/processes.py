"""Starts the processes of a run on this machine, each a program of its own with CPU devices, joined by 127.0.0.1."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).parent.parent.parent
PATIENCE = 400
"""Seconds: this machine may be busy with other things."""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def environment() -> dict[str, str]:
    cache = os.environ.get("JAX_COMPILATION_CACHE_DIR", "/tmp/baton_jax_cache")
    return {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": cache, "PYTHONPATH": str(ROOT)}


class Processes:
    """`count` processes of one run; `command` makes each one's from its index."""

    def __init__(self, folder: pathlib.Path, count: int, command):
        folder.mkdir(parents=True, exist_ok=True)
        self.logs = [folder / f"process_{index}.log" for index in range(count)]
        self.all = []
        for index, log in enumerate(self.logs):
            with log.open("w") as file:
                words = [sys.executable, *command(index)]
                self.all.append(
                    subprocess.Popen(words, cwd=ROOT, env=environment(), stdout=file, stderr=subprocess.STDOUT)
                )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.all:
            if process.poll() is None:
                process.kill()
                process.wait()

    def until(self, condition) -> None:
        """Returns when `condition()` holds; fails when a process ends before."""
        end = time.monotonic() + PATIENCE
        while not condition():
            ended = [process.poll() for process in self.all]
            assert ended == [None] * len(ended), (ended, self.said())
            assert time.monotonic() < end, self.said()
            time.sleep(0.02)

    def signal(self, index: int, number: signal.Signals) -> None:
        self.all[index].send_signal(number)

    def codes(self, seconds: float = PATIENCE, of=None) -> list[int]:
        """The exit codes, of those that are asked for, when all have ended."""
        end = time.monotonic() + seconds
        asked = self.all if of is None else [self.all[index] for index in of]
        return [process.wait(max(end - time.monotonic(), 0.1)) for process in asked]

    def said(self, index: int | None = None) -> str:
        logs = self.logs if index is None else [self.logs[index]]
        return "\n".join(log.read_text() for log in logs)


def run(store, workdir, count: int, devices: int, *overrides: str, logs=None) -> Processes:
    """`baton run` of the first two stages of a shipped recipe, shrunk, on `count` processes of `devices` each."""
    bindings = [f"STORE='{store}'", "VOCABULARY=384", "MLM_STEPS=10", "FROZEN_STEPS=10", "SAVE_STEPS=2", "RATE=1e-3"]
    bindings += [f"{stage}/Stage.log_every=1" for stage in ("mlm", "frozen")]
    given = [word for binding in (*bindings, *overrides) for word in ("--set", binding)]
    port = free_port()

    def command(index: int) -> list[str]:
        here = ["--coordinator", f"127.0.0.1:{port}", "--processes", str(count), "--process", str(index)]
        return [
            "-m", "recipes.cli", "run", "mlm_then_seq2seq", "--overlay", "gin/tiny.gin", "--until", "frozen",
            "--workdir", str(workdir), "--devices", str(devices), *given, *(here if count > 1 else []),
        ]  # fmt: skip

    return Processes(logs or pathlib.Path(f"{workdir}.logs"), count, command)
