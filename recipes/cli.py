"""The command `baton`: one function a subcommand, each importing what it needs when it is called.

A user's mistake ends with one line and exit code 2, a preempted run with 75. `baton --help` imports neither JAX nor
TensorFlow.
"""

import argparse
import importlib
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from recipes import recipe

MISTAKE, PREEMPTED = 2, 75


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    arguments = _parser().parse_args(argv)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax tells of every choice of its own
    try:
        return arguments.command(arguments) or 0
    except recipe.Mistake as mistake:
        print(f"baton: {' '.join(str(mistake).split())}", file=sys.stderr)
        return MISTAKE
    except recipe.Preempted as preempted:
        print(f"baton: {preempted}", file=sys.stderr)
        return PREEMPTED
    except BrokenPipeError:
        sys.stderr.close()
        return 1


@contextmanager
def mistakes() -> Iterator[None]:
    """Inside, a ValueError or a file that isn't there is the user's mistake: it becomes one line."""
    try:
        yield
    except (ValueError, FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError) as error:
        raise recipe.Mistake(str(error)) from error


def _run(arguments: argparse.Namespace) -> None:
    import rich.console

    from recipes import run, summary

    _imports(arguments)
    resolved = _recipe(arguments)
    _jax(arguments)
    console = rich.console.Console()
    run.run(
        resolved,
        arguments.workdir,
        until=arguments.until,
        allow_config_change=arguments.allow_config_change,
        console=console,
    )
    summary.show(resolved.value, arguments.workdir, console)


def _plan(arguments: argparse.Namespace) -> int:
    import json

    from recipes import plan

    _imports(arguments)
    resolved = _recipe(arguments)
    planned = plan.make(resolved.value, devices=arguments.devices)
    if arguments.json:
        print(json.dumps(planned.json(), indent=1))
    else:
        print("\n".join(plan.lines(planned, full=arguments.full)))
    return MISTAKE if planned.problems else 0


def _preview(arguments: argparse.Namespace) -> None:
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


def _vocab(arguments: argparse.Namespace) -> None:
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


def _store(arguments: argparse.Namespace) -> None:
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


def _convert(arguments: argparse.Namespace) -> None:
    from recipes import convert

    with mistakes():
        plan = convert.convert(
            arguments.source,
            arguments.target,
            by=arguments.handoff,
            of=arguments.recipe,
            stage=arguments.stage,
            dry=arguments.dry_run,
        )
    print("\n".join(plan.lines()))
    print("dry run: nothing is written" if arguments.dry_run else f"wrote {arguments.target}")


def _demo(arguments: argparse.Namespace) -> None:
    from recipes import demo

    _jax(arguments)
    demo.run_demo(arguments.workdir)


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


def _jax(arguments: argparse.Namespace) -> None:
    """Settings of JAX that a run wants: its devices, and compiled programs kept between runs."""
    import jax

    if arguments.devices:
        jax.config.update("jax_num_cpu_devices", arguments.devices)
    cache = os.environ.get("JAX_COMPILATION_CACHE_DIR", os.path.expanduser("~/.cache/baton/jax"))
    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with a command line in one line."""

    def error(self, message: str) -> NoReturn:
        """Ends the program with that line."""
        self.exit(MISTAKE, f"baton: {message}; see `{self.prog} --help`\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="baton", description="Pretrain encoders and encoder-decoders in sequence.", allow_abbrev=False
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, command: Callable[[argparse.Namespace], int | None], text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name, help=text, description=text, fromfile_prefix_chars="@", allow_abbrev=False,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )  # fmt: skip
        sub.set_defaults(command=command)
        return sub

    sub = add("demo", _demo, "the whole idea on the built-in corpus, minutes on a laptop")
    sub.add_argument("--workdir", default="demo", help="where it trains; removed and made anew")
    _device_flags(sub)

    sub = add("run", _run, "run or resume a recipe, every stage in order")
    _recipe_flags(sub)
    _device_flags(sub)
    sub.add_argument("--workdir", required=True, help="one directory a run, local or gs://")
    sub.add_argument("--until", metavar="STAGE", help="stop after this stage")
    sub.add_argument("--allow-config-change", action="store_true", help="go on with a recipe that was changed")

    sub = add("plan", _plan, "what a recipe will do and what it costs, before anything is spent")
    _recipe_flags(sub)
    _device_flags(sub)
    sub.add_argument("--json", action="store_true", help="print the plan as JSON")
    sub.add_argument("--full", action="store_true", help="print every parameter of every handoff")

    sub = add("preview", _preview, "decoded examples, masks, packing and lengths of a mixture or of a recipe's stage")
    sub.add_argument("name", help="a SeqIO task or mixture, a token store, or RECIPE.gin:STAGE")
    sub.add_argument("--rows", type=_count, default=4, help="rows to show")
    sub.add_argument("--html", metavar="FILE", help="write one self-contained page instead")
    sub.add_argument("--inputs", type=_count, default=512, help="length of a row's inputs, where no recipe says")
    sub.add_argument("--targets", type=_count, default=114, help="length of a row's targets, where no recipe says")
    _set_flags(sub)

    sub = add("vocab", _vocab, "train a SentencePiece vocabulary on a temperature-sampled mixture of texts")
    _text_flags(sub)
    sub.add_argument("--out", required=True, metavar="DIR", help="where the vocabulary goes")
    sub.add_argument("--size", type=_count, required=True, help="number of ids, sentinels included")
    sub.add_argument("--sentinels", type=int, default=100, help="ids for spans left out")
    sub.add_argument(
        "--normalisation", choices=("identity", "nfkc"), default="identity", help="what happens to text first"
    )
    sub.add_argument("--alpha", type=float, default=0.3, help="texts are sampled by characters**alpha")
    sub.add_argument("--sentences", type=_count, default=1_000_000, help="how many sentences are sampled")
    sub.add_argument("--seed", type=int, default=0, help="of the sample")

    sub = add("store", _store, "tokenise texts into a token store, which every stage reads")
    _text_flags(sub)
    sub.add_argument("--out", required=True, metavar="DIR", help="the store, local or gs://")
    sub.add_argument(
        "--vocabulary", required=True, metavar="PATH", help="of `baton vocab`, a .model or tokenizers .json, or 'bytes'"
    )
    sub.add_argument("--processes", type=_count, default=None, help="how many to spell with; one a core")
    sub.add_argument(
        "--validation", type=float, default=0.0, help="share of the documents held out as split 'validation'"
    )
    sub.add_argument("--overwrite", action="store_true", help="replace parts of another text or vocabulary")

    sub = add("convert", _convert, "hand a stage's checkpoint over to a new one, offline, leaf by leaf")
    sub.add_argument("source", help="WORKDIR/STAGE")
    sub.add_argument("target", help="WORKDIR/STAGE to be made")
    sub.add_argument("--handoff", metavar="NAME|FILE.gin", help="a shipped handoff, or a gin file that binds one")
    sub.add_argument("--recipe", help="the recipe that has the target's stage, where the handoff makes new parameters")
    sub.add_argument("--stage", help="that stage")
    sub.add_argument("--dry-run", action="store_true", help="print the plan; write nothing")
    return parser


def _recipe_flags(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("recipe", metavar="RECIPE", help="a gin file, or the name of a shipped recipe")
    _set_flags(sub)


def _set_flags(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--overlay", action="append", default=[], metavar="FILE", help="gin on top, e.g. gin/tiny.gin")
    sub.add_argument("--set", action="append", default=[], metavar="BINDING", help="e.g. 'mlm/Stage.steps=100'")
    sub.add_argument(
        "--import", action="append", default=[], dest="imports", metavar="MODULE", help="a module of yours"
    )


def _device_flags(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--devices", type=_count, default=None, help="devices to plan for; on a CPU, how many to make of it"
    )


def _text_flags(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "text", nargs="+",
        help="NAME=FILES, FILES (each a part), NAME=tfds:DATASET[@SPLIT] or cldr:COUNT; @FILE reads them from a file",
    )  # fmt: skip
    sub.add_argument("--key", default="text", help="field of a JSON line or TFDS example that holds the text")


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is less than 1")
    return value


if __name__ == "__main__":
    sys.exit(main())
