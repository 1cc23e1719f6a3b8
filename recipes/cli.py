"""The command `baton`: its words and flags (recipes/commands.py does the work).

A user's mistake ends with one line and exit code 2, a preempted run with 75, one that lost another of its processes
with 69. `baton --help` imports neither JAX nor TensorFlow.
"""

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from recipes import allocator, commands, recipe
from recipes.launch import command as launch


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    arguments = _parser().parse_args(argv)
    if argv is None and arguments.command in (commands.run, commands.demo, commands.evaluate, commands.corrupt):
        allocator.restart()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax tells of every choice of its own
    try:
        return arguments.command(arguments) or 0
    except recipe.Mistake as mistake:
        print(f"baton: {' '.join(str(mistake).split())}", file=sys.stderr)
        return recipe.MISTAKE
    except recipe.Preempted as preempted:
        print(f"baton: {preempted}", file=sys.stderr)
        return recipe.PREEMPTED
    except BrokenPipeError:
        sys.stderr.close()
        return 1


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with a command line in one line."""

    def error(self, message: str) -> NoReturn:
        """Ends the program with that line."""
        self.exit(recipe.MISTAKE, f"baton: {message}; see `{self.prog} --help`\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="baton", description="Pretrain encoders and encoder-decoders in sequence.", allow_abbrev=False
    )
    words = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, command: Callable[[argparse.Namespace], int | None], text: str) -> argparse.ArgumentParser:
        sub = words.add_parser(
            name, help=text, description=text, fromfile_prefix_chars="@", allow_abbrev=False,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )  # fmt: skip
        sub.set_defaults(command=command)
        return sub

    sub = add("demo", commands.demo, "the whole idea on the built-in corpus, minutes on a laptop")
    sub.add_argument("--workdir", default="demo", help="where it trains; removed and made anew")
    _device_flags(sub)

    sub = add("run", commands.run, "run or resume a recipe, every stage in order")
    _recipe_flags(sub)
    _device_flags(sub)
    _host_flags(sub)
    sub.add_argument("--workdir", required=True, help="one directory a run, local or gs://")
    sub.add_argument("--until", metavar="STAGE", help="stop after this stage")
    sub.add_argument("--allow-config-change", action="store_true", help="go on with a recipe that was changed")

    sub = add("corrupt", commands.corrupt, "a stage's text as its frozen auxiliary corrupts it, written into a store")
    _recipe_flags(sub)
    _device_flags(sub)
    sub.add_argument("--stage", required=True, help="a stage of the recipe, a Pair with a frozen auxiliary")
    sub.add_argument("--workdir", help="of the run that has trained the auxiliary, where it is a stage of the recipe")
    sub.add_argument("--out", required=True, metavar="DIR", help="the store, local or gs://")
    sub.add_argument("--split", default="train", help="what is corrupted: 'train', or a held-out share to evaluate on")
    sub.add_argument("--batches", type=_count, default=None, help="how many; as many as the stage has updates")
    sub.add_argument("--overwrite", action="store_true", help="replace what is of another auxiliary, text or setting")

    sub = add("plan", commands.plan, "what a recipe will do and what it costs, before anything is spent")
    _recipe_flags(sub)
    _device_flags(sub)
    sub.add_argument("--json", action="store_true", help="print the plan as JSON")
    sub.add_argument("--full", action="store_true", help="print every parameter of every handoff")
    sub.add_argument("--sharding", action="store_true", help="print every parameter's axes, split and bytes a device")
    sub.add_argument(
        "--topology", action="append", default=[], metavar="SLICE",
        help="compile every stage for this slice of TPUs, e.g. v5e:16x16 or 2xv5e:16x16; may be repeated",
    )  # fmt: skip
    sub.add_argument("--fit", action="store_true", help="with --topology: search the fastest setting that fits")

    sub = add("submit", launch.submit, "run a recipe on a TPU that is made for it and deleted after it")
    launch.flags(sub)
    _set_flags(sub)

    sub = add("preview", commands.preview, "decoded examples, masks, packing, lengths: of a mixture or a stage")
    sub.add_argument("name", help="a SeqIO task or mixture, a token store, or RECIPE.gin:STAGE")
    sub.add_argument("--rows", type=_count, default=4, help="rows to show")
    sub.add_argument("--html", metavar="FILE", help="write one self-contained page instead")
    sub.add_argument("--inputs", type=_count, default=512, help="length of a row's inputs, where no recipe says")
    sub.add_argument("--targets", type=_count, default=114, help="length of a row's targets, where no recipe says")
    _set_flags(sub)

    sub = add("vocab", commands.vocab, "train a SentencePiece vocabulary on a temperature-sampled mixture of texts")
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

    sub = add("store", commands.store, "tokenise texts into a token store, which every stage reads")
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

    sub = add("eval", commands.evaluate, "fine-tune a trained stage on downstream tasks and score every language")
    sub.add_argument("stage", help="WORKDIR/STAGE; with --forgetting the earlier one")
    sub.add_argument(
        "task", nargs="*",
        help="a gin file that binds a finetune.Task, or the name of one in gin/tasks; with --forgetting first the "
        "later WORKDIR/STAGE, then as many tasks as you like, or none for all that were scored",
    )  # fmt: skip
    sub.add_argument(
        "--forgetting", action="store_true",
        help="two stages beside each other: scores of old tasks, loss on the earlier one's text, similarity of layers",
    )  # fmt: skip
    sub.add_argument("--run-missing", action="store_true", help="with --forgetting: score what a task named lacks")
    sub.add_argument(
        "--data", metavar="WORKDIR/STAGE", help="with --forgetting: whose objective and text, if not the earlier one's"
    )
    sub.add_argument("--batches", type=_count, help="with --forgetting: how many held-out batches; 8 unless given")
    sub.add_argument("--rows", type=_count, help="with --forgetting: rows of a batch; as in training unless given")
    sub.add_argument("--json", action="store_true", help="with --forgetting: print the figures as JSON instead")
    _set_flags(sub)
    _device_flags(sub)
    _host_flags(sub)

    sub = add(
        "report", commands.report, "one self-contained HTML page: curves, lineage, handoffs, compute, comparisons"
    )
    sub.add_argument("workdirs", nargs="+", metavar="WORKDIR", help="of a run, or NAME=WORKDIR to name it")
    sub.add_argument("--out", default="report.html", metavar="FILE", help="the page; an older report is replaced")
    sub.add_argument("--json", action="store_true", help="print what the page would show as JSON instead")

    sub = add("digest", commands.digest, "the sha256 of the newest parameters of a stage")
    sub.add_argument("stage", help="WORKDIR/STAGE")

    sub = add("convert", commands.convert, "hand a stage's checkpoint over to a new one, offline, leaf by leaf")
    sub.add_argument("source", help="WORKDIR/STAGE, or hf:DIR, a Hugging Face model, or t5x:DIR_OR_FILE")
    sub.add_argument("target", help="WORKDIR/STAGE to be made, or hf:DIR")
    sub.add_argument("--family", help="to hf: the model_type, where the model fits several, e.g. mt5")
    sub.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"), help="to hf: of tensors")
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


def _host_flags(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--distributed", choices=("auto",), help="several hosts, as the TPU pod or the cluster tells")
    sub.add_argument("--coordinator", metavar="HOST:PORT", help="several hosts: where process 0 meets the others")
    sub.add_argument("--processes", type=_count, metavar="N", help="how many processes there are")
    sub.add_argument("--process", type=int, metavar="I", help="which of them this is, from 0")
    sub.add_argument("--join-seconds", type=_count, default=300, metavar="S", help="how long they wait for each other")


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
