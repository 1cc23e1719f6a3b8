"""Reproduces Soltan et al. 2023 at a small scale: pretraining, fine-tuning, and the page with the verdicts.

    python docs/results/soltan2023.py run --data ../shared/data --workdir runs/soltan2023   resumes; some hours, 2 cores
        [--jobs 2]   so many commands at a time, the cores divided among them
    python docs/results/soltan2023.py page --workdir runs/soltan2023                         the tables of soltan2023.md

`run` calls `baton` alone and prints each command; `page` reads what the runs left behind. The rule of the verdicts was
fixed before the first run: see `reproduction.Effect.verdict`.
"""

import pathlib
from collections.abc import Callable

import reproduction
from reproduction import Command, settings

MODELS = (
    "roberta_12e",
    "bart_12e12d",
    "bart_12e12d_mask",
    "bart_12e2d",
    "bart_12e2d_mask",
    "bart_12e1d_mask",
    "bart_12e12d_mlm",
    "two_stage_bart_12e12d",
    "two_stage_bart_12e12d_attn_f",
    "two_stage_bart_12e12d_unfrz",
)
PAIRS = ("roberta_12e", "bart_12e12d", "two_stage_bart_12e12d", "two_stage_bart_12e12d_frozen", MODELS[-1])
"""The stages that carry a claim: a second pretraining seed for these."""
SEEDS = (0, 2)
LABELLING = ("udpos", "ner")
ENCODERS = MODELS[:7]
"""Whose encoder a claim is about; in the models that stay frozen it is roberta_12e's."""
WRITERS = (MODELS[1], *MODELS[7:])
"""Whose writing a claim is about."""
SETTINGS = settings(
    "LENGTH=64", "STEPS=300", "EVERY=100", "PATIENCE=3", "RATES=(1e-3,)", "SEEDS=3", "BATCH=16",
    "examples.Examples.limit=1000",
)  # fmt: skip
"""Of fine-tuning; the limit holds for what is learnt, watched and scored alike."""


def study(data: pathlib.Path, home: pathlib.Path) -> reproduction.Study:
    """The vocabulary and the token store; the models of each pretraining seed; what is learnt from them."""
    return reproduction.Study(
        prepare=reproduction.prepare(data, home),
        trained={seed: pretrain(home, seed) for seed in SEEDS},
        scored={seed: finetune(data, home, seed) for seed in SEEDS},
    )


def pretrain(home: pathlib.Path, seed: int) -> Command:
    """The models of a pretraining seed."""
    recipe = f"soltan2023/small/{'grid' if seed == SEEDS[0] else 'pairs'}"
    bindings = settings(f"STORE='{home / 'store'}'", f"SEED={seed}")
    return ["run", recipe, *bindings, "--workdir", str(home / f"seed_{seed}")]


def finetune(data: pathlib.Path, home: pathlib.Path, seed: int) -> list[Command]:
    """What is learnt from the models of a pretraining seed."""
    made, folders = [], settings(f"TASKS='{data / 'tasks'}'")
    for model in MODELS:
        if seed != SEEDS[0] and model not in PAIRS:
            continue
        start = ["eval", str(home / f"seed_{seed}" / model)]
        if model in ENCODERS:
            made += [[*start, task, *folders, *SETTINGS] for task in LABELLING]
        if model in WRITERS:
            made.append([*start, "cldr_translate", *SETTINGS])
    return made


CLAIMS = (
    ("The encoder of a seq2seq model is below an MLM encoder on token labelling", "below", LABELLING,
     (("bart_12e12d", "roberta_12e"),)),
    ("Mask tokens instead of dropped spans do not close the gap", "below", LABELLING,
     (("bart_12e12d_mask", "roberta_12e"),)),
    ("Small decoders do not close it", "below", LABELLING,
     (("bart_12e2d", "roberta_12e"), ("bart_12e2d_mask", "roberta_12e"), ("bart_12e1d_mask", "roberta_12e"))),
    ("A little more MLM does not close it (recipe 1)", "below", LABELLING, (("bart_12e12d_mlm", "roberta_12e"),)),
    ("With its encoder frozen throughout, a warm start is below scratch", "below", ("cldr_translate",),
     (("two_stage_bart_12e12d", "bart_12e12d"), ("two_stage_bart_12e12d_attn_f", "bart_12e12d"))),
    ("Unfrozen partway, it matches scratch (recipe 2)", "alike", ("cldr_translate",),
     (("two_stage_bart_12e12d_unfrz", "bart_12e12d"),)),
)  # fmt: skip


def scored(home: pathlib.Path, model: str) -> Callable[[int, str], list[float] | None]:
    """The scores of a model by (pretraining seed, task)."""
    return lambda seed, task: reproduction.score(home / f"seed_{seed}" / model, task)


def claims(home: pathlib.Path) -> str:
    """The table of claims."""
    rows = reproduction.head()
    for text, kind, tasks, pairs in CLAIMS:
        for one, other in pairs:
            found = reproduction.paired(scored(home, one), scored(home, other), SEEDS, tasks)
            rows.append(reproduction.row(text, f"`{one}` − `{other}`, {', '.join(tasks)}", found, kind))
    return "\n".join(rows)


def scores(home: pathlib.Path) -> str:
    """Every model's scores: mean over seeds, and what pretraining cost."""
    tasks = (*LABELLING, "cldr_translate")
    rows = [
        f"| model | {' | '.join(tasks)} | last validation loss | tokens | FLOPs, lineage |",
        "|---|" + "---|" * (len(tasks) + 3),
    ]
    for model in MODELS:
        of = scored(home, model)
        cells = [reproduction.spread([x for seed in SEEDS for x in of(seed, task) or []]) for task in tasks]
        stage = home / f"seed_{SEEDS[0]}" / model
        found = reproduction.figures(stage)
        said = "– | – | –"
        if found:
            tokens = reproduction.lineage(stage)[-1]["tokens"]
            said = f"{found['validation/loss']:.3f} | {tokens:,} | {found['flops']:.3g}"
        rows.append(f"| `{model}` | {' | '.join(cells)} | {said} |")
    return "\n".join(rows)


def savings(home: pathlib.Path) -> str:
    """Training units of both ways to an encoder and a seq2seq model, from the ledgers in the checkpoints."""
    rows = ["| way | training units | against both from scratch |", "|---|---|---|"]
    folder = home / f"seed_{SEEDS[0]}"

    def units(*finals: str) -> float:
        once = {entry["params_digest"]: entry for final in finals for entry in reproduction.lineage(folder / final)}
        return sum(entry["training_units"] for entry in once.values())

    both = units("roberta_12e", "bart_12e12d")
    for name, finals in (
        ("both from scratch", ("roberta_12e", "bart_12e12d")),
        ("recipe 1: seq2seq, its encoder and a little MLM", ("bart_12e12d_mlm",)),
        ("recipe 2, frozen throughout", ("two_stage_bart_12e12d",)),
        ("recipe 2, unfrozen partway", ("two_stage_bart_12e12d_unfrz",)),
    ):
        rows.append(f"| {name} | {units(*finals):.3e} | {1 - units(*finals) / both:+.1%} saved |")
    return "\n".join(rows)


def tables(home: pathlib.Path) -> dict[str, str]:
    """The tables of the page."""
    return {"claims": claims(home), "scores": scores(home), "savings": savings(home)}


if __name__ == "__main__":
    reproduction.main("soltan2023", __doc__, study, tables)
