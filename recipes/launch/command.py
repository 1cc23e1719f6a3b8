"""`baton submit`: its flags and what they do."""

import argparse
import dataclasses
import pathlib
import re
import secrets
import shlex
import sys

from recipes import recipe
from recipes.launch import check, emit, gcloud, lifecycle, package, record, scripts, slices, workers
from recipes.launch.job import Job, Patience

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def flags(sub: argparse.ArgumentParser) -> None:
    """Adds the flags of `baton submit` but for those that every command with a recipe has."""
    sub.add_argument("words", nargs="+", metavar="WORD", help="RECIPE, or status|logs|stop and the NAME of a TPU")
    sub.add_argument("--tpu", metavar="NAME", help="name of the TPU to be made")
    sub.add_argument("--type", help="e.g. v5litepod-16, v4-32, v5p-64, v6e-8")
    sub.add_argument("--zone", help="e.g. us-west4-a")
    sub.add_argument("--project", help="whose; gcloud's default when unset")
    sub.add_argument("--version", metavar="RUNTIME", help="image of the VMs; the type's own when unset")
    sub.add_argument("--spot", action="store_true", help="cheaper, may be preempted at any time")
    sub.add_argument("--queued", action="store_true", help="wait in line for it (a queued resource)")
    sub.add_argument("--workdir", help="gs://BUCKET/FOLDER, or an absolute path that every worker mounts")
    sub.add_argument("--allow-dirty", action="store_true", help="send tracked files as they are, not as committed")
    sub.add_argument("--retries", type=int, default=20, help="new beginnings after preemptions and lost workers")
    sub.add_argument("--timeout", type=float, metavar="MINUTES", help="wait so long for the TPU; 60, or 1440 if queued")
    sub.add_argument("--poll", type=float, default=15, metavar="SECONDS", help="between two looks at the workers")
    sub.add_argument(
        "--backoff", type=float, default=30, metavar="SECONDS", help="before the first retry; then doubled"
    )
    sub.add_argument("--no-fit", action="store_true", help="don't compile the recipe for the slice first")
    sub.add_argument("--dry-run", action="store_true", help="plan, print every command, run none")
    sub.add_argument("--emit", choices=("skypilot", "jobset"), help="write this for others to run; run nothing")
    sub.add_argument("--out", metavar="FILE", help="where --emit writes")
    sub.add_argument("--image", help="the container image, for --emit jobset")


def submit(arguments: argparse.Namespace) -> int:
    """`baton submit`; returns its exit code."""
    first, *rest = arguments.words
    if first in _ON_NAMES:
        if len(rest) != 1:
            raise recipe.Mistake(f"`baton submit {first}` takes the name of one TPU")
        try:
            return _ON_NAMES[first](record.find(rest[0]))
        except gcloud.Failed as error:
            return _end(workers.Ended(code=1, line=str(error)))
    if rest:
        raise recipe.Mistake(f"one recipe, or status|logs|stop NAME, but not {shlex.join(arguments.words)!r}")
    wanted = ["tpu", "type", "zone", "workdir"] + (["out"] if arguments.emit else [])
    wanted += ["image"] if arguments.emit == "jobset" else []
    missing = [f"--{name}" for name in wanted if getattr(arguments, name) is None]
    if missing:
        raise recipe.Mistake(f"{', '.join(missing)} must be given; see `baton submit --help`")
    for name in ("zone", "project", "version"):
        if not re.fullmatch(r"[a-z0-9][a-z0-9.:-]*", getattr(arguments, name) or "unset"):
            raise recipe.Mistake(f"--{name} {getattr(arguments, name)!r}: a-z, 0-9, '.', ':' and '-' alone")
    return _submit(arguments)


def _submit(arguments: argparse.Namespace) -> int:
    packed = package.pack(ROOT, arguments.allow_dirty)
    on = slices.find(arguments.type)
    job = Job(
        name=arguments.tpu,
        on=on,
        runtime=arguments.version or on.runtime,
        spot=arguments.spot,
        recipe=packed.inside(arguments.words[0]),
        workdir=arguments.workdir,
        overlays=tuple(packed.inside(file) for file in arguments.overlay),
        sets=tuple(arguments.set),
        imports=tuple(arguments.imports),
        retries=max(0, arguments.retries),
    )
    check.check(job, ROOT, not arguments.no_fit, _say)
    if arguments.emit:
        uv, jax = packed.locked("uv"), packed.locked("jax")
        sky = arguments.emit == "skypilot"
        made = emit.skypilot(job, arguments.zone, uv, jax) if sky else emit.jobset(job, arguments.image)
        pathlib.Path(arguments.out).write_text(emit.text(made))
        _say(f"wrote {arguments.out}; {'sky jobs launch' if sky else 'kubectl apply -f'} {shlex.quote(arguments.out)}")
        return 0
    known = record.Record(
        name=job.name,
        id="dry-run" if arguments.dry_run else secrets.token_hex(4),
        zone=arguments.zone,
        project=arguments.project,
        queued=arguments.queued,
        workdir=job.workdir,
    )
    minutes = arguments.timeout or (1440 if arguments.queued else 60)
    patience = Patience(create=60 * minutes, poll=arguments.poll, backoff=arguments.backoff)
    submission = lifecycle.Submission(job, packed, known, patience, _say)
    if arguments.dry_run:
        print(f"# packs commit {packed.commit} into {scripts.archive(known.id)}, then:")
        print("\n".join(shlex.join(words) for words in submission.words()))
        return 0
    try:
        return _end(submission.run())
    except gcloud.Failed as error:
        return _end(workers.Ended(code=1, line=str(error)))


def _status(known: record.Record) -> int:
    node = known.cloud.node(known.name)
    request = known.cloud.request(known.name) if known.queued else None
    asked = f", queued resource {request['state']['state']}" if request else ""
    print(f"{known.name}: {node['state'] if node else 'no node'}{asked}, in {known.zone}, trains into {known.workdir}")
    if node is not None and node["state"] == "READY":
        for index, state in enumerate(workers.Workers(known.cloud, known.name, known.id).look()):
            print(
                f"  worker {index}: {'lost' if state is None else state if state == 'running' else f'exited {state}'}"
            )
    return 0


def _logs(known: record.Record) -> int:
    workers.Workers(known.cloud, known.name, known.id).relay()
    return 0


def _stop(known: record.Record) -> int:
    """Lets the run save, then deletes the TPU; the process that watches it sees the record and ends."""
    on = workers.Workers(known.cloud, known.name, known.id)
    dataclasses.replace(known, stopping=True).save()
    node = known.cloud.node(known.name)
    found = known.cloud.request(known.name) if known.queued else node
    if found is None:
        known.forget()
        return _end(workers.Ended(code=0, line=f"{known.name} is gone already"))
    if gcloud.label(found) != known.id:
        raise recipe.Mistake(f"{known.name!r} in {known.zone} is not what this submission made; it is left alone")
    if node is not None and node["state"] == "READY":
        _say(f"the run has {Patience().grace} s to save")
        on.stop(Patience().grace)
    try:
        known.cloud.run(known.cloud.delete(known.name), 900)
    except gcloud.Failed:
        # The process that watches the run may have been first.
        if known.cloud.node(known.name) is not None:
            raise
    known.forget()
    return _end(workers.Ended(code=0, line=f"deleted {known.name}; the same submission goes on from what was saved"))


_ON_NAMES = {"status": _status, "logs": _logs, "stop": _stop}


def _say(line: str) -> None:
    print(f"submit: {line}", flush=True)


def _end(ended: workers.Ended) -> int:
    if ended.code:
        print(f"baton: {gcloud.clean(ended.line)}", file=sys.stderr, flush=True)
    else:
        _say(ended.line)
    return ended.code
