"""Sets up the stand-in for gcloud, and a run that ends as a test tells it to."""

import json
import os
import pathlib
import subprocess
import sys
import threading
import time

from recipes.launch import lifecycle, package, record, slices
from recipes.launch.job import Job, Patience

ROOT = pathlib.Path(__file__).parent.parent.parent

# A worker's `baton run` that ends as told: the words it was given go to $HOME/argv.json, its attempts are counted in
# the work directory, and behave.json has (seconds, exit code) for each attempt.
FAKE_RUN = """
import json, os, pathlib, signal, sys, time
home, cloud = pathlib.Path(os.environ["HOME"]), pathlib.Path(os.environ["STAND_IN"])
(home / "argv.json").write_text(json.dumps(sys.argv[1:]))
def saved(number, frame):
    print("baton: saved step 7", flush=True)
    sys.exit(75)
signal.signal(signal.SIGTERM, saved)
count = cloud / f"attempts-{home.name}"
attempt = int(count.read_text()) if count.exists() else 0
count.write_text(str(attempt + 1))
seconds, code = json.loads((cloud / "behave.json").read_text())[attempt]
print(f"attempt {attempt} of {home.name}", flush=True)
time.sleep(seconds)
print("baton: it ended" if code else "done", flush=True)
sys.exit(code)
"""


class Cloud:
    """The stand-in's folder, and what a test asks of it."""

    def __init__(self, folder, monkeypatch):
        self.folder = folder
        for name in ("nodes", "requests", "faults", "bin", "path"):
            (folder / name).mkdir(parents=True)
        stand_in = (pathlib.Path(__file__).parent / "stand_in_gcloud.py").read_text()
        self._script("path/gcloud", f"#!{sys.executable} -S\n{stand_in}")
        self._script("bin/uv", '#!/bin/bash\necho "$*" >> "$HOME/installed"\n[ "$1" = venv ] || exit 0\n'
                     'mkdir -p .venv/bin && cp "$STAND_IN/bin/worker_python" .venv/bin/python\n')  # fmt: skip
        self._script("bin/python3", '#!/bin/bash\necho "$*" >> "$HOME/installed"\n'
                     'mkdir -p "$6/bin" && cp "$STAND_IN/bin/uv" "$6/bin/uv"\n')  # fmt: skip
        (folder / "fake_run.py").write_text(FAKE_RUN)
        self._script("bin/worker_python", f'#!/bin/bash\nexec {sys.executable} "$STAND_IN/fake_run.py" "$@"\n')
        self.environment = {
            "STAND_IN": str(folder),
            "PATH": f"{folder / 'path'}:{os.environ['PATH']}",
            "XDG_STATE_HOME": str(folder / "remembered"),
            "PYTHONPATH": str(ROOT),
        }
        for name, value in self.environment.items():
            monkeypatch.setenv(name, value)

    def _script(self, name, text):
        (self.folder / name).write_text(text)
        (self.folder / name).chmod(0o755)

    def behave(self, *attempts):
        (self.folder / "behave.json").write_text(json.dumps(attempts))

    def fault(self, verb, *faults):
        (self.folder / "faults" / f"{verb}.json").write_text(json.dumps(faults))

    def calls(self, *verbs):
        """The verbs of the calls so far, of these alone where they are given."""
        file = self.folder / "calls.jsonl"
        made = [json.loads(line)[3] for line in file.read_text().splitlines()] if file.exists() else []
        return [verb for verb in made if not verbs or verb in verbs]

    def left(self):
        """Nodes, requests and processes that are still there."""
        files = [
            *self.folder.glob("nodes/*"),
            *self.folder.glob("requests/*"),
            *self.folder.glob("remembered/**/*.json"),
        ]
        needle = f"STAND_IN={self.folder}".encode()
        running = []
        for process in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                if int(process.name) != os.getpid() and needle in (process / "environ").read_bytes():
                    running.append((process / "cmdline").read_text())
            except OSError:
                continue
        return [file.name for file in files], running

    def logged(self, name, text):
        """Whether the log of a node's worker 0 has this text."""
        return any(text in log.read_text() for log in self.folder.glob(f"nodes/{name}/worker-0/baton-*/log"))

    def when(self, true, then, seconds=20):
        """In a thread: waits for `true()`, then does `then()`."""

        def wait():
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                if true():
                    return then()
                time.sleep(0.02)

        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        return thread

    def stand_in(self, function, *arguments):
        """Calls a function of the stand-in, as something that happens to the cloud."""
        code = f"import stand_in_gcloud as s; s.{function}(*{arguments!r})"
        here = {**os.environ, "PYTHONPATH": f"{pathlib.Path(__file__).parent}:{ROOT}"}
        subprocess.run([sys.executable, "-c", code], env=here, check=True)


QUICK = Patience(create=20, install=20, poll=0.05, settle=0.3, grace=5, backoff=0.01, longest=0.05)


def checkout(folder):
    """A git checkout of a few files, with a lock."""
    folder.mkdir()
    (folder / "requirements.txt").write_text("jax==0.10.2\njaxlib==0.10.2\n")
    (folder / "requirements-dev.txt").write_text("uv==0.13.8\n")
    (folder / "mine.gin").write_text("# a recipe\n")
    git = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
        subprocess.run([*git, *words], check=True)
    return folder


def submission(root, say, *, type="v4-16", queued=False, retries=3, patience=QUICK, **more):
    """A submission of two workers, if the type has no more."""
    job = Job(
        name="mine",
        on=slices.find(type),
        runtime="image",
        spot=True,
        recipe="mine.gin",
        workdir="gs://bucket/run",
        retries=retries,
        **more,
    )
    known = record.Record(
        name="mine", id="0a1b2c3d", zone="here-a", project="us", queued=queued, workdir=job.workdir
    )  # fmt: skip
    return lifecycle.Submission(job, package.pack(root), known, patience, say)
