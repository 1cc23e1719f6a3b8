"""`baton submit` against a stand-in for gcloud: each way it can end is one line, the right code, and nothing left."""

import dataclasses
import json
import pathlib
import sys

import pytest

from recipes import recipe
from recipes.launch import command, record

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import cloud as clouds  # noqa: E402  a module beside this one, which pytest's importlib mode doesn't find by itself


@pytest.fixture
def cloud(tmp_path, monkeypatch):
    return clouds.Cloud(tmp_path / "cloud", monkeypatch)


@pytest.fixture
def root(tmp_path):
    return clouds.checkout(tmp_path / "checkout")


@pytest.mark.parametrize("queued", [False, True])
def test_preempted_in_the_middle_made_again_resumed_done_deleted(cloud, root, queued, capsys):
    cloud.behave((30, 0), (0.1, 0))
    said = []
    mine = clouds.submission(root, said.append, queued=queued)

    def seen():
        return mine.workers.offset > 0 and all((cloud.folder / f"attempts-worker-{index}").exists() for index in (0, 1))

    watch = cloud.when(seen, lambda: cloud.stand_in("preempt", "mine"))
    ended = mine.run()
    watch.join()
    assert (ended.code, ended.line) == (0, "the run is done")
    assert cloud.left() == ([], [])
    assert cloud.calls("create", "scp", "delete") == ["create", "scp", "delete"] * 2
    printed = capsys.readouterr().out
    assert "attempt 0 of worker-0" in printed and "attempt 1 of worker-0" in printed and "worker-1" not in printed
    assert [(cloud.folder / f"attempts-worker-{index}").read_text() for index in (0, 1)] == ["2", "2"]
    assert sum("retry 1 of 3" in line for line in said) == 1


@pytest.mark.parametrize("code", [recipe.PREEMPTED, recipe.LOST, 134])
def test_stopped_or_lost_on_a_sound_tpu_it_starts_there_again(cloud, root, code):
    cloud.behave((0.1, code), (0.1, 0))
    ended = clouds.submission(root, lambda line: None).run()
    assert ended.code == 0 and cloud.left() == ([], [])
    assert (cloud.folder / "attempts-worker-0").read_text() == "2"
    assert cloud.calls("create", "scp", "delete") == ["create", "scp", "delete"]


@pytest.mark.parametrize(
    ("code", "line"), [(2, "the run refused to begin: it ended"), (1, "the run failed (exit code 1)")]
)
def test_a_mistake_or_an_error_is_not_tried_again(cloud, root, code, line):
    cloud.behave((0.1, code), (0.1, 0))
    ended = clouds.submission(root, lambda line: None).run()
    assert ended.code == code and ended.line.startswith(line)
    assert cloud.left() == ([], []) and cloud.calls("create") == ["create"]


def kill_one(cloud):
    pid = next(cloud.folder.glob("nodes/mine/worker-1/baton-*/pid")).read_text()
    cloud.stand_in("os.killpg", int(pid), 9)


@pytest.mark.parametrize(("retries", "code"), [(0, 1), (1, 0)])
def test_a_worker_that_dies(cloud, root, retries, code):
    cloud.behave((30, 0), (0.1, 0))

    def started():
        return all((cloud.folder / f"attempts-worker-{index}").exists() for index in (0, 1))

    watch = cloud.when(started, lambda: kill_one(cloud))
    ended = clouds.submission(root, lambda line: None, retries=retries).run()
    watch.join()
    assert ended.code == code and cloud.left() == ([], [])
    if code:
        assert ended.line == "1 of 2 workers were lost, and all 0 retries are used"


def test_a_quota_error_is_not_tried_again(cloud, root):
    line = "ERROR: (gcloud.compute.tpus.tpu-vm.create) RESOURCE_EXHAUSTED: Quota limit 'TPUV4' has been exceeded."
    cloud.fault("create", {"said": f"Create request issued\n{line}\nBearer abc123 ya29.secret"})
    ended = clouds.submission(root, lambda line: None).run()
    assert (ended.code, ended.line) == (1, line)
    assert cloud.left() == ([], []) and cloud.calls("create", "delete") == ["create"]


def test_a_full_zone_is_tried_again(cloud, root):
    full = {"said": 'ERROR: code 8: There is no more capacity in the zone "here-a"'}
    cloud.behave((0.1, 0))
    cloud.fault("create", full, full)
    assert clouds.submission(root, lambda line: None, retries=2).run().code == 0
    cloud.fault("create", full, full)
    ended = clouds.submission(root, lambda line: None, retries=1).run()
    assert ended.code == 1 and ended.line.endswith("and all 1 retries are used") and cloud.left() == ([], [])


def test_a_create_that_takes_too_long(cloud, root):
    cloud.fault("booting", {"hang": 60})
    patience = dataclasses.replace(clouds.QUICK, create=1)
    ended = clouds.submission(root, lambda line: None, patience=patience).run()
    assert (ended.code, ended.line) == (1, "gcloud create took more than 1 s")
    assert cloud.left() == ([], []) and cloud.calls("create", "delete") == ["create", "delete"]


def test_a_tpu_of_another_is_left_alone(cloud, root):
    cloud.stand_in("boot", "mine", "v4-8", {"owner": "someone"})
    with pytest.raises(recipe.Mistake, match="'mine' exists in here-a already"):
        clouds.submission(root, lambda line: None).run()
    assert cloud.calls("create", "delete") == []
    mine = clouds.submission(root, lambda line: None)
    mine.made = True
    assert mine.clean() is None and cloud.calls("delete") == [] and (cloud.folder / "nodes" / "mine.json").exists()


def test_what_cannot_be_deleted_is_told(cloud, root):
    cloud.behave((0.1, 0))
    cloud.fault("delete", *[{"said": "ERROR: PERMISSION_DENIED"}] * 3)
    ended = clouds.submission(root, lambda line: None).run()
    assert ended.code == 1
    assert ended.line == (
        "mine could not be deleted (ERROR: PERMISSION_DENIED); run: "
        "gcloud compute tpus tpu-vm delete mine --zone=here-a --project=us --quiet"
    )


def test_status_logs_and_stop_from_another_terminal(cloud, root, capsys):
    cloud.behave((30, 0), (30, 0))
    seen = []

    def act():
        known = record.find("mine")
        seen.append([command._status(known), command._logs(known), command._stop(known)])

    watch = cloud.when(lambda: cloud.logged("mine", "attempt 0"), act)
    ended = clouds.submission(root, lambda line: None).run()
    watch.join()
    assert seen == [[0, 0, 0]] and ended.code == 75 and cloud.left() == ([], [])
    assert cloud.calls("create") == ["create"]
    printed = capsys.readouterr().out
    assert "mine: READY, in here-a, trains into gs://bucket/run" in printed and "worker 1: running" in printed
    assert "baton: saved step 7" in printed
    with pytest.raises(recipe.Mistake, match="no submission named 'mine'"):
        record.find("mine")


EVIL = ("a'; touch evil; '", '$(touch evil) `touch evil` "', "line\nbreak & touch evil #", "-x --workdir=elsewhere \\")


def test_no_value_reaches_a_shell_unquoted(cloud, root):
    cloud.behave((0.3, 0))
    held = []
    watch = cloud.when(
        lambda: len(list(cloud.folder.glob("nodes/mine/worker-*/argv.json"))) == 2 and cloud.logged("mine", "attempt"),
        lambda: held.extend(
            json.loads(file.read_text()) for file in cloud.folder.glob("nodes/mine/worker-*/argv.json")
        ),
    )
    ended = clouds.submission(root, lambda line: None, sets=EVIL, overlays=EVIL[:1]).run()
    watch.join()
    assert ended.code == 0 and not list(cloud.folder.rglob("evil"))
    wanted = [
        f"--overlay={EVIL[0]}",
        *(f"--set={value}" for value in EVIL),
        "--workdir=gs://bucket/run",
        "--distributed=auto",
    ]
    assert held == [["-m", "recipes.cli", "run", "mine.gin", *wanted]] * 2
