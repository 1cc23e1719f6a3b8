"""The whole story with the real `baton run`: two stages over two hosts, preempted in the middle, done, deleted."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import cloud as clouds  # noqa: E402  a module beside this one, which pytest's importlib mode doesn't find by itself

# A worker's python. On a TPU VM the metadata server tells each process of its neighbours (`--distributed=auto`); here
# flags do. A `baton run` without them trains on worker 0 alone, and the others wait for it.
WORKER = """#!/bin/bash
index="${{HOME##*worker-}}"
words=()
for word in "$@"; do [ "$word" = --distributed=auto ] || words+=("$word"); done
if grep -q -e '"--coordinator"' recipes/*.py; then
  words+=(--coordinator=localhost:{port} --processes=2 "--process=$index")
elif [ "$index" != 0 ]; then
  trap 'exit 75' TERM
  until [ -f ../../../worker-0/baton-*/exit ]; do sleep 0.1; done
  exit "$(cat ../../../worker-0/baton-*/exit)"
fi
exec {python} "${{words[@]}}"
"""


@pytest.mark.skipif(not (clouds.ROOT / ".git").exists(), reason="submit packs a git checkout, which this isn't")
def test_two_stages_over_two_hosts_preempted_in_the_middle(store, tmp_path, monkeypatch):
    cloud = clouds.Cloud(tmp_path / "cloud", monkeypatch)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", os.environ.get("JAX_COMPILATION_CACHE_DIR", "/tmp/baton_jax_cache"))
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    (cloud.folder / "bin" / "worker_python").write_text(WORKER.format(port=port, python=sys.executable))
    work, at = tmp_path / "work", []

    def preempt():
        at.append([(work / stage / "done").exists() for stage in ("seq2seq", "encoder")])
        cloud.stand_in("preempt", "mine")

    watch = cloud.when(lambda: any(work.glob("seq2seq/checkpoints/*/complete")), preempt, seconds=600)
    sets = [f"STORE='{store}'", "VOCABULARY=384", "SEQ2SEQ_STEPS=200", "ENCODER_STEPS=6", "SAVE_STEPS=20"]
    words = [sys.executable, "-m", "recipes.cli", "submit", "seq2seq_then_encoder", "--overlay=gin/tiny.gin"]
    words += [*(f"--set={binding}" for binding in sets), f"--workdir={work}", "--tpu=mine", "--type=v4-16"]
    words += ["--zone=here-a", "--spot", "--allow-dirty", "--no-fit", "--poll=0.3", "--backoff=0.1"]
    done = subprocess.run(words, cwd=clouds.ROOT, capture_output=True, text=True)
    watch.join()
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert at == [[False, False]] and "retry 1 of 20" in done.stdout
    assert "seq2seq: goes on from its own checkpoint at step" in done.stdout
    assert cloud.left() == ([], [])
    assert cloud.calls("create", "scp", "delete") == ["create", "scp", "delete"] * 2
    assert [json.loads((work / stage / "done").read_text())["step"] for stage in ("seq2seq", "encoder")] == [200, 6]
    head = subprocess.run(
        ["git", "-C", clouds.ROOT, "rev-parse", "HEAD"], capture_output=True, text=True
    ).stdout.strip()
    manifests = [file.read_text() for file in work.glob("encoder/checkpoints/*/manifest/metadata")]
    assert manifests and all(head in text for text in manifests)
