"""Runs of several processes, for real: one mesh over gloo, killed, told to stop, and equal to a run of one process."""

import json
import re
import signal
import time

import numpy as np
import pytest

from recipes import checkpoint, hosts, journal, recipe, shares
from tests.recipes import processes

STAGES = ("mlm", "frozen")


def digests(workdir):
    return [json.loads((workdir / stage / "done").read_text())["params_digest"] for stage in STAGES]


def losses(workdir):
    lines = [(stage, line["step"], line["loss"]) for stage in STAGES for line in journal.read(workdir / stage)]
    assert [step for stage, step, _ in lines if stage == "mlm"] == list(range(1, 11))
    return lines


def saved(workdir, stage):
    return checkpoint.steps(workdir / stage / "checkpoints")


def ended(run, index):
    """Waits for the line that is said when a process is gone."""
    until = time.monotonic() + 10
    while "goes on from the last checkpoint" not in run.said(index) and time.monotonic() < until:
        time.sleep(0.1)
    return run.said(index)


def test_killed_and_stopped_processes_resume_and_equal_one_process(store, tmp_path):
    """Two processes: one dies in the first stage, one is told to stop in the second; the bits of one with two devices."""
    with processes.run(store, tmp_path / "one", 1, 2) as alone:
        assert alone.codes() == [0], alone.said()
    several = tmp_path / "two"
    with processes.run(store, several, 2, 1) as killed:
        killed.until(lambda: saved(several, "mlm"))
        killed.signal(1, signal.SIGKILL)
        began = time.monotonic()
        dead = killed.codes()
        assert time.monotonic() - began < 60 and 0 not in dead, (dead, killed.said())
        assert "another process" in ended(killed, 0)
    with processes.run(store, several, 2, 1) as stopped:
        stopped.until(lambda: saved(several, "frozen"))
        stopped.signal(1, signal.SIGTERM)
        assert stopped.codes() == [recipe.PREEMPTED] * 2, stopped.said()
        steps = {re.findall(r"stage 'frozen' saved step (\d+)", stopped.said(index))[0] for index in range(2)}
        assert steps == {str(saved(several, "frozen")[-1])}
        assert "goes on from its own checkpoint" in stopped.said(0)
    with processes.run(store, several, 2, 1) as last:
        assert last.codes() == [0, 0], last.said()
        assert "connected to 1 peer" in last.said(1) and "connected to" not in alone.said()
    assert digests(several) == digests(tmp_path / "one")
    assert losses(several) == losses(tmp_path / "one")


def test_processes_decide_together(tmp_path):
    """What recipes/agree.py, recipes/shares.py and the scores say on two processes, in one go."""
    port = processes.free_port()
    worker = str(processes.ROOT / "tests" / "recipes" / "agreeing.py")
    with processes.Processes(
        tmp_path, 2, lambda index: [worker, str(port), str(index), str(tmp_path / f"out{index}")]
    ) as run:
        assert run.codes() == [0, 0], run.said()
    told = [json.loads((tmp_path / f"out{index}").read_text()) for index in range(2)]
    assert [each.pop("process") for each in told] == [0, 1]
    assert told[0] == told[1]
    found = told[0]
    assert found["first"] == "of 0" and found["everyone"] == ["of 0", "of 1 and longer"]
    assert found["mistakes"] == {
        "first": "only 0 sees it",
        "check": "process 1 of 2: only 1 sees it",
        "same": "process 1 of 2: x: the recipe has 'b = 2' here and 'b = 1' on process 0; "
        "run the same command, with the same files and packages, on every host",
        "shared": found["mistakes"]["shared"],
    }
    assert "isn't the one that process 0 writes to" in found["mistakes"]["shared"]
    assert found["wishes"] == [[False, False], [False, False], [False, False], [True, False], [False, True]]
    whole = np.arange(16).reshape(8, 2)
    assert found["gathered"] == whole.tolist() and found["placed"] != whole.tolist()
    assert found["answers"] == [[row, row % 3] for row in range(7)]
    assert found["digest"] == checkpoint.digest({"a": np.arange(8, dtype=np.float32)})


@pytest.mark.parametrize(
    "blocks, expected",
    [
        ([[0], [0], [1], [1]], [((0, 1), {0}), ((2, 3), {1})]),
        ([[0], [1], [0], [1]], [((0, 2), {0}), ((1, 3), {1})]),
        ([[0, 1], [0, 1]], [((0, 1), {0, 1})]),
        ([[0, 1], [2, 3]], [((0,), {0, 1}), ((1,), {2, 3})]),
    ],
)
def test_processes_that_hold_the_same_rows_share_them(blocks, expected):
    assert shares.groups(np.asarray(blocks), {}) == expected


def test_rows_that_overlap_in_part_are_refused():
    with pytest.raises(recipe.Mistake, match="rows that overlap in part"):
        shares.groups(np.asarray([[0, 0, 1], [1, 2, 2]]), {"data": 2, "tensor": 3})


def test_a_place_comes_from_flags_or_environment():
    assert hosts.place(None, None, None, seconds=1, environment={}) is None
    told = {"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "4", "JAX_PROCESS_ID": "3"}
    assert hosts.place(None, None, None, seconds=9, environment=told) == hosts.Place(
        coordinator="a:1", processes=4, process=3, seconds=9
    )
    assert hosts.place("b:2", 2, 1, seconds=9, environment=told) == hosts.Place(
        coordinator="b:2", processes=2, process=1, seconds=9
    )
    for given, message in (
        (("a:1", 2, None), "--process .* is None"),
        (("a", 2, 0), "is no HOST:PORT"),
        (("a:1", 2, 2), "count from 0 to 1"),
    ):
        with pytest.raises(recipe.Mistake, match=message):
            hosts.place(*given, seconds=1, environment={})


def test_a_coordinator_that_does_not_answer_is_one_line(tmp_path):
    at = f"hosts.Place(coordinator='127.0.0.1:{processes.free_port()}', processes=2, process=1, seconds=1)"
    code = f"from recipes import hosts\nwith hosts.joined({at}): pass"
    with processes.Processes(tmp_path, 1, lambda index: ["-c", code]) as run:
        assert run.codes() == [1]
    assert "nothing answers at --coordinator 127.0.0.1" in run.said().splitlines()[-1]


@pytest.mark.parametrize(
    ("raised", "code"), [("OSError('the disk is full')", 1), ("recipe.Lost('the other is gone')", recipe.LOST)]
)
def test_what_fails_says_so_by_its_code_and_what_lost_another_by_its_own(tmp_path, raised, code):
    at = f"hosts.Place(coordinator='127.0.0.1:{processes.free_port()}', processes=1, process=0, seconds=20)"
    lines = f"from recipes import hosts, recipe\nwith hosts.joined({at}): raise {raised}"
    with processes.Processes(tmp_path, 1, lambda index: ["-c", lines]) as run:
        assert run.codes() == [code]
    assert raised.split("'")[1] in run.said()


@pytest.mark.slow
def test_four_processes_equal_one(store, tmp_path):
    """Four processes of one device as 2 x 2, data and fsdp, against one process of four."""
    mesh = ("recipe.Mesh.data=2", "recipe.Mesh.fsdp=2")
    with processes.run(store, tmp_path / "one", 1, 4, *mesh) as alone:
        assert alone.codes() == [0], alone.said()
    with processes.run(store, tmp_path / "four", 4, 1, *mesh) as several:
        assert several.codes() == [0] * 4, several.said()
    assert "connected to 3 peer" in several.said() and "connected to" not in alone.said()
    one, four = losses(tmp_path / "one"), losses(tmp_path / "four")
    assert [line[:2] for line in one] == [line[:2] for line in four]
    # Four numbers are added in another order by gloo than inside one process.
    np.testing.assert_allclose([line[2] for line in four], [line[2] for line in one], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("victim, number", [(0, signal.SIGKILL), (1, signal.SIGSTOP)])
def test_a_host_that_is_gone_or_hangs_ends_the_others(store, tmp_path, victim, number):
    """The one with the coordinator; and one that neither dies nor answers, as a host cut off from the network."""
    with processes.run(store, tmp_path / "two", 2, 1, "MLM_STEPS=4000") as run:
        run.until(lambda: saved(tmp_path / "two", "mlm"))
        run.signal(victim, number)
        began = time.monotonic()
        assert run.codes(of=[1 - victim]) != [0]
        assert time.monotonic() - began < 60
        assert "another process" in ended(run, 1 - victim)


@pytest.mark.slow
@pytest.mark.parametrize(
    "other, message",
    [
        (["--set", "RATE=1e-4"], "the recipe has 'RATE = 0.0001' here and 'RATE = 0.001' on process 0"),
        (["--workdir", "{elsewhere}"], "isn't the one that process 0 writes to"),
        (["--set", "BATCH=6"], "doesn't divide over 4 devices"),
    ],
)
def test_mistakes_of_several_hosts_are_one_line_on_each(store, tmp_path, other, message):
    given = [word.format(elsewhere=tmp_path / "elsewhere") for word in other]
    both = "BATCH" in other[-1]
    port = processes.free_port()

    def command(index):
        return [
            "-m", "recipes.cli", "run", "mlm_then_seq2seq", "--overlay", "gin/tiny.gin", "--set", f"STORE='{store}'",
            "--set", "VOCABULARY=384", "--set", "RATE=1e-3", "--workdir", str(tmp_path / "here"), "--devices", "2",
            "--coordinator", f"127.0.0.1:{port}", "--processes", "2", "--process", str(index),
            *(given if both or index else []),
        ]  # fmt: skip

    with processes.Processes(tmp_path / "logs", 2, command) as run:
        assert run.codes() == [recipe.MISTAKE] * 2, run.said()
    for index in range(2):
        assert message in run.said(index).splitlines()[-1]
        assert "Traceback" not in run.said(index)
