"""The commands of `baton`, one function each; what a command needs is imported when it is called."""

import argparse
import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from recipes import recipe


@contextmanager
def mistakes() -> Iterator[None]:
    """Inside, a ValueError or a file that isn't there is the user's mistake: it becomes one line."""
    try:
        yield
    except (ValueError, FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError) as error:
        raise recipe.Mistake(str(error)) from error


def run(arguments: argparse.Namespace) -> None:
    """`baton run`."""
    from recipes import run as runs
    from recipes import summary

    _imports(arguments)
    resolved = _recipe(arguments)
    _jax(arguments)
    with _joined(arguments) as console:
        runs.run(
            resolved,
            arguments.workdir,
            until=arguments.until,
            allow_config_change=arguments.allow_config_change,
            console=console,
        )
        summary.show(resolved.value, arguments.workdir, console)


def corrupt(arguments: argparse.Namespace) -> None:
    """`baton corrupt`."""
    from recipes import corrupt as corruption
    from recipes import progress

    _imports(arguments)
    resolved = _recipe(arguments)
    _jax(arguments)
    options = {name: getattr(arguments, name) for name in ("workdir", "split", "batches", "overwrite")}
    with mistakes():
        made = corruption.corrupt(resolved, arguments.stage, arguments.out, console=progress.console(), **options)
    print(f"corrupt: {arguments.out} has {made['rows']:,} rows of {made['inputs']} places, split {arguments.split!r}")


def plan(arguments: argparse.Namespace) -> int:
    """`baton plan`."""
    from recipes import planning

    if arguments.topology:
        planning.without_accelerator()
    _imports(arguments)
    of = _recipe(arguments).value
    shown = {"json": arguments.json, "sharding": arguments.sharding}
    if arguments.topology:
        return planning.slices(of, arguments.topology, search=arguments.fit, **shown)
    return planning.here(of, arguments.devices, full=arguments.full, **shown)


def preview(arguments: argparse.Namespace) -> None:
    """`baton preview`."""
    import rich.console

    from recipes import previews

    _imports(arguments)
    with mistakes():
        previews.show(
            arguments.name,
            rows=arguments.rows,
            html=arguments.html,
            console=rich.console.Console(),
            overlays=arguments.overlay,
            overrides=arguments.set,
            modules=arguments.imports,
            inputs=arguments.inputs,
            targets=arguments.targets,
        )


def vocab(arguments: argparse.Namespace) -> None:
    """`baton vocab`."""
    from tasks import corpora, vocabulary

    with mistakes():
        vocabulary.train(
            corpora.parse(arguments.text, key=arguments.key),
            arguments.out,
            size=arguments.size,
            sentinels=arguments.sentinels,
            normalisation=arguments.normalisation,
            alpha=arguments.alpha,
            sentences=arguments.sentences,
            seed=arguments.seed,
            progress=lambda line: print(f"vocab: {line}", flush=True),
        )
    print(f"vocab: wrote {arguments.out}")


def store(arguments: argparse.Namespace) -> None:
    """`baton store`."""
    import rich.console

    from recipes import progress
    from tasks import corpora, tokenize

    with mistakes(), progress.of_store(rich.console.Console()) as told:
        built = tokenize.build(
            corpora.parse(arguments.text, key=arguments.key),
            arguments.vocabulary,
            arguments.out,
            processes=arguments.processes,
            validation=arguments.validation,
            overwrite=arguments.overwrite,
            progress=told,
        )
    tokens = sum(part.tokens for part in built.values())
    print(f"store: {arguments.out} has {len(built)} parts, {tokens:,} tokens")


def convert(arguments: argparse.Namespace) -> None:
    """`baton convert`."""
    from recipes import convert as conversion
    from recipes.exchange import conversion as exchange

    if exchange.foreign(arguments.source, arguments.target):
        with mistakes():
            lines = exchange.convert(
                arguments.source,
                arguments.target,
                kind=arguments.family,
                dtype=arguments.dtype,
                dry=arguments.dry_run,
            )
        print("\n".join(lines))
        return
    with mistakes():
        made = conversion.convert(
            arguments.source,
            arguments.target,
            by=arguments.handoff,
            of=arguments.recipe,
            stage=arguments.stage,
            dry=arguments.dry_run,
        )
    print("\n".join(made.lines()))
    print("dry run: nothing is written" if arguments.dry_run else f"wrote {arguments.target}")


def evaluate(arguments: argparse.Namespace) -> None:
    """`baton eval`."""
    from recipes import downstream, trained

    if not arguments.task:
        raise recipe.Mistake("name a task to score, or with --forgetting the later WORKDIR/STAGE")
    if arguments.forgetting:
        _forgetting(arguments)
        return
    for flag in ("data", "batches", "rows", "run_missing", "json"):
        if getattr(arguments, flag):
            raise recipe.Mistake(f"--{flag.replace('_', '-')} goes with --forgetting; give that too, or leave it out")
    _imports(arguments)
    _jax(arguments)
    with _joined(arguments) as console:
        with mistakes():
            tasks = _tasks(arguments, arguments.task, trained.read(arguments.stage))
        for task in tasks:
            with mistakes():
                found = downstream.evaluate(arguments.stage, task, console)
            console.print("\n".join(downstream.lines(found)), highlight=False)


def _forgetting(arguments: argparse.Namespace) -> None:
    """`baton eval --forgetting`."""
    import json

    import rich.console

    from recipes import agree, forgetting, retained, trained

    _imports(arguments)
    _jax(arguments)
    with _joined(arguments) as console, mistakes():
        before, after = trained.read(arguments.stage), trained.read(arguments.task[0])
        data = before if arguments.data is None else trained.read(arguments.data)
        forgetting.check(before, after)
        old = forgetting.old(data, batches=arguments.batches or forgetting.BATCHES, rows=arguments.rows)
        tasks = _tasks(arguments, arguments.task[1:], before)
        if arguments.run_missing:
            # What fine-tuning has to say isn't part of the JSON.
            retained.fill(before, after, tasks, rich.console.Console(stderr=True) if arguments.json else console)
        found = forgetting.compare(before, after, old, [task.name for task in tasks])
        file = agree.first(lambda: str(forgetting.write(found)))
        text = json.dumps(found, indent=1) if arguments.json else "\n".join([*forgetting.lines(found), f"wrote {file}"])
        console.print(text, highlight=False, markup=False, soft_wrap=True)


def report(arguments: argparse.Namespace) -> None:
    """`baton report`."""
    import json
    import pathlib

    from recipes.report import collect, folders, page

    with mistakes():
        found = folders.find(arguments.workdirs)
        file = pathlib.Path(arguments.out)
        if not arguments.json:
            page.check(file)
        collected = collect.collect(found)
        if arguments.json:
            print(json.dumps(collected, indent=1))
            return
        page.write(collected, file)
    stages = sum(len(run["stages"]) for run in collected["runs"])
    print(f"report: wrote {file} ({len(found)} runs, {stages} stages, {file.stat().st_size / 1000:,.0f} kB)")


def digest(arguments: argparse.Namespace) -> None:
    """`baton digest`."""
    from recipes import checkpoint

    with mistakes():
        step = checkpoint.manifest(arguments.stage)["step"]
        print(checkpoint.digest_of(f"{arguments.stage}/checkpoints/{step}"), f"{arguments.stage} step {step}")


def demo(arguments: argparse.Namespace) -> None:
    """`baton demo`."""
    from recipes import demo as demos

    _jax(arguments)
    demos.run_demo(arguments.workdir)


def _tasks(arguments: argparse.Namespace, names: Sequence[str], of: Any) -> list[Any]:
    """The downstream tasks of these names, spelt as a trained stage is."""
    from recipes import config, finetune
    from tasks import quiet

    quiet.load("seqio")
    given = {"overlays": arguments.overlay, "of": finetune.Task, "folder": "tasks"}
    return [config.load(name, [*of.spelling, *arguments.set], **given).value for name in names]


def _recipe(arguments: argparse.Namespace) -> Any:
    from recipes import config

    with mistakes():
        return config.load(arguments.recipe, arguments.set, overlays=arguments.overlay)


def _imports(arguments: argparse.Namespace) -> None:
    """Imports the user's modules, which register SeqIO tasks or bring classes that a gin file names."""
    sys.path.insert(0, os.getcwd())
    for module in arguments.imports:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise recipe.Mistake(f"--import {module}: {error}; it must be importable from here") from error


@contextmanager
def _joined(arguments: argparse.Namespace) -> Iterator[Any]:
    """Inside, this process is one of a run's where flags or environment say so; gives the terminal to process 0."""
    import jax
    import rich.console

    from recipes import hosts, progress

    given = arguments.coordinator, arguments.processes, arguments.process
    at = hosts.place(*given, seconds=arguments.join_seconds)
    if arguments.distributed == "auto" and at is None:
        at = hosts.Place(seconds=arguments.join_seconds)
    with hosts.joined(at):
        yield progress.console() if jax.process_index() == 0 else rich.console.Console(quiet=True)


def _jax(arguments: argparse.Namespace) -> None:
    """Settings of JAX that a run wants: its devices, and compiled programs kept between runs."""
    import jax

    if arguments.devices:
        jax.config.update("jax_num_cpu_devices", arguments.devices)
    cache = os.environ.get("JAX_COMPILATION_CACHE_DIR", os.path.expanduser("~/.cache/baton/jax"))
    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
