"""A stand-in for `gcloud compute tpus`: nodes are files of a folder, workers local processes with homes in it.

`STAND_IN` names the folder: nodes/NAME.json and NAME/worker-I, requests/NAME.json (queued resources), calls.jsonl (every
command line), faults/VERB.json (a list of what goes wrong at the next calls: {"said": ..., "code": ...} or {"hang": S}),
bin/ (what a TPU VM has on its PATH and this machine shouldn't be changed by: pip, uv). Flags that the real one doesn't
have are refused.
"""

import argparse
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

HOME = pathlib.Path(os.environ["STAND_IN"])


def fail(line, code=1):
    print(line, file=sys.stderr)
    sys.exit(code)


def file(kind, name):
    return HOME / kind / f"{name}.json"


def read(kind, name):
    if not file(kind, name).exists():
        fail(f"ERROR: (gcloud.compute.tpus.{kind}) NOT_FOUND: Resource '{name}' was not found")
    return json.loads(file(kind, name).read_text())


def write(kind, name, value):
    file(kind, name).parent.mkdir(exist_ok=True)
    draft = file(kind, name).with_suffix(".draft")
    draft.write_text(json.dumps(value))
    draft.replace(file(kind, name))


def groups(name):
    """The process groups of the runs of a node."""
    for pid in (HOME / "nodes" / name).glob("worker-*/baton-*/pid"):
        yield int(pid.read_text())


def kill(name, number):
    for group in groups(name):
        try:
            os.killpg(group, number)
        except ProcessLookupError:
            pass


def preempt(name, seconds=20):
    """What happens to a Spot TPU: every process is told to end, and a little later the machine is gone."""
    kill(name, signal.SIGTERM)
    until = time.monotonic() + seconds
    while time.monotonic() < until and any(pathlib.Path(f"/proc/{group}").exists() for group in groups(name)):
        time.sleep(0.02)
    write("nodes", name, read("nodes", name) | {"state": "PREEMPTED"})
    if file("requests", name).exists():
        write("requests", name, read("requests", name) | {"state": {"state": "SUSPENDED"}})
    kill(name, signal.SIGKILL)


def boot(name, type, labels):
    from recipes.launch import slices

    for index in range(slices.find(type).hosts):
        (HOME / "nodes" / name / f"worker-{index}").mkdir(parents=True)
    write("nodes", name, {"name": name, "state": "READY", "labels": labels, "acceleratorType": type})


def create(kind, words):
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("name")
    for flag in ("zone", "project", "accelerator-type", "labels"):
        parser.add_argument(f"--{flag}")
    parser.add_argument("--runtime-version" if kind == "queued-resources" else "--version", required=True)
    if kind == "queued-resources":
        parser.add_argument("--node-id", required=True)
    for flag in ("spot", "quiet"):
        parser.add_argument(f"--{flag}", action="store_true")
    given = parser.parse_args(words)
    labels = dict([given.labels.split("=")])
    if file("nodes", given.name).exists():
        fail("ERROR: (gcloud.compute.tpus.tpu-vm.create) ALREADY_EXISTS")
    if kind == "queued-resources":
        spec = [{"nodeId": given.node_id, "node": {"labels": labels, "acceleratorType": given.accelerator_type}}]
        waiting = {"state": {"state": "WAITING_FOR_RESOURCES"}, "tpu": {"nodeSpec": spec}}
        write("requests", given.name, waiting)
    else:
        write("nodes", given.name, {"name": given.name, "state": "CREATING", "labels": labels})
        fault("booting")
        boot(given.name, given.accelerator_type, labels)


def describe(kind, words):
    if kind == "tpu-vm":
        print(json.dumps(read("nodes", words[0])))
        return
    found = read("requests", words[0])
    print(json.dumps(found))
    if found["state"]["state"] == "WAITING_FOR_RESOURCES":  # the next look finds it provisioned
        spec = found["tpu"]["nodeSpec"][0]
        boot(spec["nodeId"], spec["node"]["acceleratorType"], spec["node"]["labels"])
        write("requests", words[0], found | {"state": {"state": "ACTIVE"}})


def delete(kind, words):
    name = words[0]
    read("requests" if kind == "queued-resources" else "nodes", name)
    if kind == "queued-resources" and "--force" not in words:
        fail("ERROR: the queued resource has nodes")
    kill(name, signal.SIGKILL)
    shutil.rmtree(HOME / "nodes" / name, ignore_errors=True)
    file("nodes", name).unlink(missing_ok=True)
    file("requests", name).unlink(missing_ok=True)


def chosen(name, words):
    if read("nodes", name)["state"] != "READY":
        fail(f"ERROR: (gcloud.compute.tpus.tpu-vm.ssh) the TPU is in state {read('nodes', name)['state']}")
    which = next((word.partition("=")[2] for word in words if word.startswith("--worker=")), "0")
    homes = sorted((HOME / "nodes" / name).glob("worker-*"))
    return homes if which == "all" else [homes[int(which)]]


def ssh(kind, words):
    script = next(word.partition("=")[2] for word in words if word.startswith("--command="))
    running = []
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for home in chosen(words[0], words):
        here = {**inherited, "HOME": str(home), "PATH": f"{HOME / 'bin'}:{os.environ['PATH']}"}
        running.append(subprocess.Popen(["bash", "-c", script], cwd=home, env=here, stdin=subprocess.DEVNULL))
    codes = [process.wait() for process in running]
    sys.exit(next((code for code in codes if code), 0))


def scp(kind, words):
    name, _, target = words[1].partition(":")
    for home in chosen(name, words):
        shutil.copy(words[0], home / target)


def fault(verb):
    pending = HOME / "faults" / f"{verb}.json"
    if not pending.exists():
        return
    first, *rest = json.loads(pending.read_text()) or [{}]
    pending.write_text(json.dumps(rest))
    if "hang" in first:
        time.sleep(first["hang"])
    elif "said" in first:
        fail(first["said"], first.get("code", 1))


def main(words):
    with (HOME / "calls.jsonl").open("a") as calls:
        calls.write(json.dumps(words) + "\n")
    compute, tpus, kind, verb, *rest = words
    if (compute, tpus) != ("compute", "tpus") or kind not in ("tpu-vm", "queued-resources") or "--quiet" not in rest:
        fail(f"ERROR: (gcloud) unexpected words {words}", 2)
    fault(verb)
    {"create": create, "describe": describe, "delete": delete, "ssh": ssh, "scp": scp}[verb](kind, rest)


if __name__ == "__main__":
    main(sys.argv[1:])
