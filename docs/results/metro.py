"""Reproduces METRO, ELECTRA and Fast-ELECTRA beside masked LM at a small scale, and writes the page with the verdicts.

    python docs/results/metro.py run --data ../shared/data --workdir runs/metro   resumes; some hours, 2 cores
        [--jobs 2]   so many commands at a time, the cores divided among them
    python docs/results/metro.py page --workdir runs/metro                        the tables of metro.md

`run` calls `baton` alone and prints each command; `page` reads what the runs left behind. The rule of the verdicts was
fixed before the first run: see `reproduction.Effect.verdict`.
"""

import pathlib
from collections.abc import Callable

import reproduction
from reproduction import Command, settings

ENCODERS = ("mlm", "electra", "metro", "fast_electra", "mlm_long", "electra_long", "fast_electra_long")
WRITERS = ("mlm_then_seq2seq", "metro_then_seq2seq")
SEEDS = (0, 1)
TASKS = ("udpos", "sib200")
SETTINGS = settings(
    "LENGTH=64", "STEPS=200", "EVERY=100", "PATIENCE=2", "RATES=(1e-3,)", "SEEDS=3", "BATCH=16",
    "examples.Examples.limit=300",
)  # fmt: skip
"""Of fine-tuning; the limit holds for what is learnt, watched and scored alike."""


def study(data: pathlib.Path, home: pathlib.Path) -> reproduction.Study:
    """The vocabulary and the token store; the models of each pretraining seed; what is learnt from them."""
    return reproduction.Study(
        prepare=reproduction.prepare(data, home),
        trained={
            seed: ["run", "metro/small/grid", *settings(f"STORE='{home / 'store'}'", f"SEED={seed}"),
                   "--workdir", str(home / f"seed_{seed}")]
            for seed in SEEDS
        },
        scored={seed: finetune(data, home, seed) for seed in SEEDS},
    )  # fmt: skip


def finetune(data: pathlib.Path, home: pathlib.Path, seed: int) -> list[Command]:
    """What is learnt from the models of a pretraining seed."""
    folders = settings(f"TASKS='{data / 'tasks'}'")
    start = home / f"seed_{seed}"
    made: list[Command] = [
        ["eval", str(start / model), task, *folders, *SETTINGS] for model in ENCODERS for task in TASKS
    ]
    made += [["eval", str(start / model), "cldr_translate", *SETTINGS] for model in WRITERS]
    return made


UPDATES = "at equal updates"
COMPUTE = "at equal compute"
CLAIMS = (
    (f"ELECTRA is above masked LM, {UPDATES}", "above", "electra", "mlm"),
    (f"ELECTRA is above masked LM, {COMPUTE}", "above", "electra_long", "mlm_long"),
    (f"METRO is above masked LM, {UPDATES}", "above", "metro", "mlm"),
    (f"METRO is above masked LM, {COMPUTE}", "above", "metro", "mlm_long"),
    (f"METRO's restoring costs nothing beside ELECTRA, {UPDATES}", "alike", "metro", "electra"),
    (f"METRO's restoring costs nothing beside ELECTRA, {COMPUTE}", "alike", "metro", "electra_long"),
    (f"A frozen auxiliary serves as well as one that learns along, {UPDATES}", "alike", "fast_electra", "electra"),
    (f"Fast-ELECTRA is above masked LM, {UPDATES}", "above", "fast_electra", "mlm"),
    (f"Fast-ELECTRA is above masked LM, {COMPUTE}", "above", "fast_electra_long", "mlm_long"),
    (f"Fast-ELECTRA is above ELECTRA, {COMPUTE}", "above", "fast_electra_long", "electra_long"),
)  # fmt: skip


def scored(home: pathlib.Path, model: str) -> Callable[[int, str], list[float] | None]:
    """The scores of a model by (pretraining seed, task)."""
    return lambda seed, task: reproduction.score(home / f"seed_{seed}" / model, task)


def figure(home: pathlib.Path, model: str, name: str) -> Callable[[int, str], list[float] | None]:
    """A figure of the model's own evaluation, by pretraining seed."""

    def of(seed: int, _: str) -> list[float] | None:
        found = reproduction.figures(home / f"seed_{seed}" / model)
        return [found[name]] if name in found else None

    return of


def claims(home: pathlib.Path) -> str:
    """The table of claims."""
    rows = reproduction.head()
    for text, kind, one, other in CLAIMS:
        for task in TASKS:
            found = reproduction.paired(scored(home, one), scored(home, other), SEEDS, (task,))
            rows.append(reproduction.row(text, f"`{one}` − `{other}`, {task}", found, kind))
    return "\n".join(rows)


def sequence(home: pathlib.Path) -> str:
    """Seq2seq models around a METRO and a masked-LM encoder that cost the same."""
    one, other = WRITERS[::-1]
    text = f"From a METRO encoder rather than a masked-LM one, {COMPUTE}"
    written = reproduction.paired(scored(home, one), scored(home, other), SEEDS, ("cldr_translate",))
    rows = [
        *reproduction.head("points or nats"),
        reproduction.row(f"{text}: writes better", f"`{one}` − `{other}`, cldr_translate", written, "above"),
    ]
    for stage, said in (("then_frozen", "frozen"), ("then_seq2seq", "unfrozen")):
        a, b = (figure(home, f"{first}_{stage}", "validation/loss") for first in ("metro", "mlm"))
        found = reproduction.paired(a, b, SEEDS, ("loss",))
        rows.append(
            reproduction.row(
                f"{text}: lower held-out loss, {said}", f"`metro_{stage}` − `mlm_{stage}`, nats", found, "below", 1, 3
            )
        )
    return "\n".join(rows)


OWN = ("validation/rtd_auc", "validation/replaced", "validation/loss")


def scores(home: pathlib.Path) -> str:
    """Every model's scores: mean over seeds, and what pretraining cost."""
    tasks = (*TASKS, "cldr_translate")
    rows = [
        f"| model | {' | '.join(tasks)} | updates | FLOPs, lineage | RTD AUC | replaced share | loss of its own |",
        "|---|" + "---|" * (len(tasks) + 5),
    ]
    for model in (*ENCODERS, *WRITERS):
        of = scored(home, model)
        cells = [reproduction.spread([x for seed in SEEDS for x in of(seed, task) or []]) for task in tasks]
        stage = home / f"seed_{SEEDS[0]}" / model
        found = reproduction.figures(stage)
        if found:
            said = [f"{found[name]:.3f}" if name in found else "–" for name in OWN]
            cells += [f"{found['step']:,}", f"{found['flops']:.3g}", *said]
        else:
            cells += ["–"] * 5
        rows.append(f"| `{model}` | {' | '.join(cells)} |")
    return "\n".join(rows)


def tables(home: pathlib.Path) -> dict[str, str]:
    """The tables of the page."""
    return {"claims": claims(home), "sequence": sequence(home), "scores": scores(home)}


if __name__ == "__main__":
    reproduction.main("metro", __doc__, study, tables)
