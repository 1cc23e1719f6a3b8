"""Reproduces the ablations of "Reuse, Don't Retrain" at a small scale, and writes the page with the verdicts.

    python docs/results/reuse.py run --data ../shared/data --workdir runs/reuse   resumes; about an hour, 2 cores
        [--jobs 2]   so many commands at a time, the cores divided among them
    python docs/results/reuse.py page --workdir runs/reuse                        the tables of reuse.md

`run` calls `baton` alone and prints each command; `page` reads what the runs left behind. The rule of the verdicts was
fixed before the first run: see `reproduction.Effect.verdict`.
"""

import pathlib
import statistics
from collections.abc import Callable

import reproduction
from reproduction import settings

SEEDS = (0, 1)
ASKED = ("de", "en", "es", "hi")
WAYS = (
    ("base", "before"),
    ("qa", "the recipe"),
    ("t4_pretraining", "T4: the pretraining mix throughout"),
    ("t4_questions_first", "T4, T9: questions from the start"),
    ("t4_order", "T4: the pretraining mix, then questions"),
    ("t8_tenth", "T8: down to a tenth"),
    ("t8_zero", "T8: down to zero"),
    ("t9_half", "T9: switch at 1/2 of the rate"),
    ("t9_tenth", "T9: switch at 1/10"),
    ("t9_fiftieth", "T9: switch at 1/50"),
    ("rewarmup", "a new warm-up to the old run's highest rate"),
    ("wsd", "WSD instead of the cosine"),
    ("new_optimizer", "without the old run's optimizer state"),
)


def study(data: pathlib.Path, home: pathlib.Path) -> reproduction.Study:
    """The vocabulary and the token store with questions in it; each pretraining seed's base and ways to continue."""
    asked = [f"qa_{language}=qa:{data / 'tasks' / 'xquad' / language}.jsonl.gz@train" for language in ASKED]
    return reproduction.Study(
        prepare=reproduction.prepare(data, home, *asked),
        trained={
            seed: ["run", "reuse/small/grid",
                   *settings(f"STORE='{home / 'store'}'", f"TASKS='{data / 'tasks'}'", f"SEED={seed}"),
                   "--workdir", str(home / f"seed_{seed}")]
            for seed in SEEDS
        },
    )  # fmt: skip


ANSWERS, TEXT = "questions/loss", "text/loss"
CLAIMS = (
    ("The recipe answers better than the base", ANSWERS, "below", "qa", ("base",)),
    ("T4: questions last beat the pretraining mix throughout", ANSWERS, "below", "t4_order", ("t4_pretraining",)),
    ("T4: questions last beat questions from the start", ANSWERS, "below", "t4_order", ("t4_questions_first",)),
    ("T4, T9: the recipe beats the pretraining mix throughout", ANSWERS, "below", "qa", ("t4_pretraining",)),
    ("T8: a hundredth is the best final rate", ANSWERS, "below", "qa", ("t8_tenth", "t8_zero")),
    ("T9: a fifth is the best place to switch", ANSWERS, "below", "qa",
     ("t4_questions_first", "t9_half", "t9_tenth", "t9_fiftieth")),
    ("A new warm-up harms: questions", ANSWERS, "below", "qa", ("rewarmup",)),
    ("A new warm-up harms: text", TEXT, "below", "qa", ("rewarmup",)),
    ("The optimizer's state makes little difference: questions", ANSWERS, "alike", "qa", ("new_optimizer",)),
    ("The optimizer's state makes little difference: text", TEXT, "alike", "qa", ("new_optimizer",)),
)  # fmt: skip


def losses(home: pathlib.Path, way: str, figure: str) -> Callable[[int, str], list[float] | None]:
    """The losses of a way's last stage in each language, sorted, by pretraining seed."""

    def of(seed: int, _: str) -> list[float] | None:
        found = reproduction.figures(home / f"seed_{seed}" / way)
        return [value for name, value in sorted(found.items()) if name.startswith(f"{figure}/")] or None

    return of


def claims(home: pathlib.Path) -> str:
    """The table of claims."""
    rows = reproduction.head("nats")
    for text, figure, kind, one, others in CLAIMS:
        for other in others:
            found = reproduction.paired(losses(home, one, figure), losses(home, other, figure), SEEDS, (figure,))
            rows.append(reproduction.row(text, f"`{one}` − `{other}`", found, kind, scale=1, digits=4))
    return "\n".join(rows)


def scores(home: pathlib.Path) -> str:
    """Every way's losses by seed, and its exact match."""
    seeds = [f"seed {seed}" for seed in SEEDS]
    rows = [
        f"| way | | answers, {' | answers, '.join(seeds)} | text, {' | text, '.join(seeds)} | exact match, % |",
        "|---|---|" + "---|" * (2 * len(SEEDS) + 1),
    ]
    for way, said in WAYS:
        cells = []
        for figure in (ANSWERS, TEXT):
            for seed in SEEDS:
                found = losses(home, way, figure)(seed, figure)
                cells.append(f"{statistics.fmean(found):.4f}" if found else "–")
        ended = [reproduction.figures(home / f"seed_{seed}" / way) for seed in SEEDS]
        exact = [each["questions/exact_match"] for each in ended if each]
        rows.append(f"| `{way}` | {said} | {' | '.join(cells)} | {reproduction.spread(exact)} |")
    return "\n".join(rows)


def tables(home: pathlib.Path) -> dict[str, str]:
    """The tables of the page."""
    return {"claims": claims(home), "scores": scores(home)}


if __name__ == "__main__":
    reproduction.main("reuse", __doc__, study, tables)
