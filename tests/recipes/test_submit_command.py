"""What comes before a TPU and instead of one: the package, the plan, the dry run, the slices, the emitted files."""

import json
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import tarfile
import time

import pytest
import yaml

from recipes import cli, recipe
from recipes.launch import check, command, emit, gcloud, package, slices
from recipes.launch.job import Job

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import cloud as clouds  # noqa: E402  a module beside this one, which pytest's importlib mode doesn't find by itself


@pytest.fixture
def root(tmp_path):
    return clouds.checkout(tmp_path / "checkout")


def job(**more):
    on = slices.find(more.pop("type", "v5litepod-16"))
    given = {"name": "mine", "recipe": "mlm_then_seq2seq", "workdir": "gs://b/w", "runtime": on.runtime, "spot": True}
    return Job(on=on, **(given | more))


@pytest.mark.parametrize(
    ("type", "topology", "chips", "hosts"),
    [
        ("v4-8", "2x2x1", 4, 1), ("v4-32", "2x2x4", 16, 4), ("v4-128", "4x4x4", 64, 16), ("v5litepod-8", "2x4", 8, 1),
        ("v5litepod-16", "4x4", 16, 4), ("v5litepod-256", "16x16", 256, 64), ("v5p-64", "2x4x4", 32, 8),
        ("v6e-1", "1x1", 1, 1), ("v6e-16", "4x4", 16, 4), ("v6e-256", "16x16", 256, 64),
    ],
)  # fmt: skip
def test_slices(type, topology, chips, hosts):
    found = slices.find(type)
    assert (found.topology, found.chips, found.hosts) == (topology, chips, hosts)
    assert len(slices.known()) == 10 + 8 + 12 + 8


def test_only_what_is_committed_travels(root, tmp_path):
    (root / "token.txt").write_text("a secret")
    with pytest.raises(recipe.Mistake, match=r"1 files .* differ from its commit \(token.txt"):
        package.pack(root)
    (root / "mine.gin").write_text("# changed")
    packed = package.pack(root, allow_dirty=True)
    packed.write(tmp_path / "it.tar.gz")
    with tarfile.open(tmp_path / "it.tar.gz") as tar:
        assert sorted(tar.getnames()) == ["COMMIT", "mine.gin", "requirements-dev.txt", "requirements.txt"]
        assert tar.extractfile("mine.gin").read() == b"# changed"
        commit = tar.extractfile("COMMIT").read().decode().strip()
    head = subprocess.run(["git", "-C", root, "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    assert commit == packed.commit == head + "+"
    assert (
        packed.inside(str(root / "mine.gin")) == "mine.gin" and packed.inside("mlm_then_seq2seq") == "mlm_then_seq2seq"
    )
    with pytest.raises(recipe.Mistake, match="is no part of the commit that travels"):
        packed.inside(str(root / "token.txt"))
    (root / "token.txt").unlink()
    subprocess.run(["git", "-C", root, "checkout", "-q", "."], check=True)
    assert package.pack(root).commit == head


STAGE = {"name": "mlm", "store": "gs://b/s", "handoff": {}}


@pytest.mark.parametrize(
    ("plan", "fits", "line"),
    [
        ({"stages": [STAGE], "problems": ["batch 3 doesn't divide"]}, {}, "batch 3 doesn't divide"),
        ({"stages": [STAGE | {"store": "stores/mine"}]}, {}, "stage 'mlm' learns from 'stores/mine', a folder of this machine"),
        ({"stages": [STAGE | {"handoff": {"source": "runs/a/mlm"}}]}, {}, "stage 'mlm' starts from 'runs/a/mlm'"),
        (
            {"stages": [STAGE]},
            {"stages": [{"name": "mlm", "fits": False, "hbm_gib": 20.04, "hbm_limit_gib": 15.75}]},
            r"'mlm' needs 20.0 GiB a chip and v5litepod-16 \(v5e:4x4\) has 15.8",
        ),
        ({"stages": [STAGE | {"handoff": {"source": "mlm"}}]}, {"stages": [{"name": "mlm", "fits": True}]}, None),
        ({"stages": [STAGE]}, None, None),
    ],
)  # fmt: skip
def test_a_plan_with_problems_or_that_doesnt_fit_is_refused(plan, fits, line, monkeypatch):
    asked, said = [], []

    def planned(job, root, flag):
        asked.append(flag)
        found = plan if flag.startswith("--devices") else fits
        return found, "baton: unrecognized arguments: --topology" if found is None else ""

    monkeypatch.setattr(check, "plan", planned)
    monkeypatch.setattr(check.importlib.util, "find_spec", lambda name: name)
    if line:
        with pytest.raises(recipe.Mistake, match=line):
            check.check(job(), clouds.ROOT, True, said.append)
    else:
        check.check(job(), clouds.ROOT, True, said.append)
        assert asked == ["--devices=16", "--topology=v5e:4x4"]
        assert said == ([] if fits else ["memory isn't checked: `baton plan` has no --topology"])


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("submit it.gin --tpu a --zone z", "--type, --workdir must be given"),
        ("submit it.gin other.gin --tpu a", "one recipe, or status|logs|stop NAME"),
        ("submit stop", "`baton submit stop` takes the name of one TPU"),
        ("submit logs nowhere", "no submission named 'nowhere'"),
        ("submit it.gin --tpu a --type v5litepod-17 --zone z --workdir gs://b/w", "did you mean 'v5litepod-1"),
        ("submit it.gin --tpu a --type v4-8 --zone '$(id)' --workdir gs://b/w", "--zone '$(id)'"),
        ("submit it.gin --tpu --x --type v4-8 --zone z --workdir gs://b/w", "expected one argument"),
        ("submit it.gin --tpu=-x --type v4-8 --zone z --workdir gs://b/w", "--tpu '-x'"),
        ("submit it.gin --tpu a --type v4-8 --zone z --workdir runs/a", "would be lost with the TPU's disk"),
        ("submit it.gin --tpu a --type v4-8 --zone z --workdir gs://b/w --emit jobset", "--out, --image must be given"),
    ],
)
def test_mistakes_are_one_line(words, line, monkeypatch, capsys, root, tmp_path):
    monkeypatch.setattr(command, "ROOT", root)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    try:
        code = cli.main(shlex.split(words))
    except SystemExit as end:
        code = end.code
    error = capsys.readouterr().err
    assert code == 2 and line in error and len(error.splitlines()) == 1


def test_a_dry_run_prints_what_a_shell_would_run_and_runs_nothing(root, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(command, "ROOT", root)
    monkeypatch.setattr(check, "check", lambda *arguments: None)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr(gcloud.Gcloud, "run", None)
    words = ["submit", "mlm_then_seq2seq", "--tpu=mine", "--type=v5litepod-16", "--zone=us-west4-a", "--dry-run"]
    assert cli.main([*words, "--workdir=gs://b/w", "--spot", "--queued", "--set=A='$(touch x)'"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.startswith("# packs commit ")
    commands = [shlex.split(line) for line in "\n".join(lines).replace("\ngcloud", "\0gcloud").split("\0")]
    assert [words[3:5] for words in commands] == [
        ["tpu-vm", "describe"], ["queued-resources", "create"], ["queued-resources", "describe"], ["tpu-vm", "describe"],
        ["tpu-vm", "scp"], ["tpu-vm", "ssh"], ["tpu-vm", "ssh"], ["tpu-vm", "ssh"], ["tpu-vm", "ssh"],
        ["queued-resources", "delete"],
    ]  # fmt: skip
    assert commands[1][5:] == [
        "mine", "--node-id=mine", "--accelerator-type=v5litepod-16", "--runtime-version=v2-alpha-tpuv5-lite", "--zone=us-west4-a",
        "--quiet", "--spot", "--labels=baton-submit=dry-run",
    ]  # fmt: skip
    assert not (tmp_path / "x").exists()


def required(value, *fields):
    """The value at a path of fields; each must be there."""
    for field in fields:
        assert field in value if isinstance(value, dict) else len(value) > field, f"{field} is missing"
        value = value[field]
    return value


def test_skypilot_task():
    evil = job(sets=("A='$(touch x)'",), retries=7)
    task = yaml.safe_load(emit.text(emit.skypilot(evil, "us-west4-a", "1", "2")))
    assert set(task) == {"name", "workdir", "num_nodes", "resources", "setup", "run"}
    assert task["num_nodes"] == 1 and task["resources"] == {
        "infra": "gcp/us-west4/us-west4-a",
        "accelerators": "tpu-v5litepod-16:1",
        "accelerator_args": {"tpu_vm": True, "runtime_version": "v2-alpha-tpuv5-lite"},
        "use_spot": True,
        "job_recovery": {"max_restarts_on_errors": 7, "recover_on_exit_codes": [75]},
    }
    assert shlex.split(task["run"]) == evil.run() and evil.run()[-1] == "--distributed=auto"
    assert subprocess.run(["bash", "-n", "-c", task["setup"]]).returncode == 0


@pytest.mark.parametrize(("type", "hosts", "chips"), [("v5litepod-16", 4, 4), ("v6e-8", 1, 8), ("v4-32", 4, 4)])
def test_jobset(type, hosts, chips):
    made = yaml.safe_load(emit.text(emit.jobset(job(type=type, retries=7), "image:1")))
    assert required(made, "apiVersion") == "jobset.x-k8s.io/v1alpha2" and required(made, "kind") == "JobSet"
    assert required(made, "metadata", "name") == "mine"
    assert required(made, "spec", "failurePolicy", "maxRestarts") == 7
    for rule in required(made, "spec", "failurePolicy", "rules"):
        assert {"name", "action"} <= set(rule)
    replicated = required(made, "spec", "replicatedJobs", 0)
    assert required(replicated, "name") and required(replicated, "replicas") == 1
    spec = required(replicated, "template", "spec")
    assert required(spec, "parallelism") == required(spec, "completions") == hosts
    pod = required(spec, "template", "spec")
    assert required(pod, "restartPolicy") == "Never"  # which a podFailurePolicy needs
    selector = required(pod, "nodeSelector")
    assert selector["cloud.google.com/gke-tpu-topology"] == slices.find(type).topology
    assert selector["cloud.google.com/gke-spot"] == "true"
    container = required(pod, "containers", 0)
    assert (
        required(container, "image") == "image:1"
        and required(container, "resources", "limits", "google.com/tpu") == chips
    )
    assert ("--distributed=auto" in required(container, "command")) == (hosts > 1)
    refused = required(spec, "podFailurePolicy", "rules", 0, "onExitCodes")
    assert refused == {"containerName": required(container, "name"), "operator": "In", "values": [2]}


def test_what_looks_like_a_credential_is_hidden():
    assert (
        gcloud.clean("Bearer abc.d ya29.x-y token=zz AIzaSyA")
        == "Bearer (hidden) ya29.(hidden) token=(hidden) AIza(hidden)"
    )


def test_ctrl_c_saves_and_deletes(tmp_path, monkeypatch):
    if not (clouds.ROOT / ".git").exists():
        pytest.skip("submit packs a git checkout, which this isn't")
    cloud = clouds.Cloud(tmp_path / "cloud", monkeypatch)
    cloud.behave((60, 0))
    words = "submit mlm_then_seq2seq --overlay gin/tiny.gin --set STORE='/s' --tpu mine --type v4-16 --zone here-a"
    words = [sys.executable, "-m", "recipes.cli", *words.split(), "--workdir=gs://b/w", "--allow-dirty", "--no-fit"]
    words += ["--poll=0.1"]
    with (tmp_path / "said").open("w+") as said:
        process = subprocess.Popen(words, cwd=clouds.ROOT, env=os.environ, stdout=said, stderr=said)
        until = time.monotonic() + 60
        while not cloud.logged("mine", "attempt 0") and process.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        code = process.wait(60)
        said.seek(0)
        lines = said.read().splitlines()
    assert (code, lines[-1]) == (75, "baton: stopped; the same command goes on from what was saved"), lines
    assert cloud.left() == ([], []) and cloud.calls("create", "delete") == ["create", "delete"]
    assert "baton: saved step 7" in lines and json.dumps(lines).count("Traceback") == 0
