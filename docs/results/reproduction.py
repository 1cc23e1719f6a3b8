"""What the reproductions share: commands that resume, effects with intervals, verdicts, and tables put into a page.

A reproduction is a script beside this one. It calls `baton` alone, and reads what the runs left behind.
"""

import argparse
import concurrent.futures
import dataclasses
import json
import os
import pathlib
import queue
import shlex
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence

from recipes import interval

Command = Sequence[str]
HERE = pathlib.Path(__file__).resolve().parent
MARGIN = 0.01
"""Two models score alike if the interval of their difference lies within a point."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
    """The commands of a reproduction, words after `baton`: `prepare` in order, then each seed's training and scores."""

    prepare: Sequence[Command]
    trained: Mapping[int, Command]
    scored: Mapping[int, Sequence[Command]] = dataclasses.field(default_factory=dict)


def prepare(data: pathlib.Path, home: pathlib.Path, *parts: str) -> tuple[Command, ...]:
    """The commands for a vocabulary of 8,000 ids and a token store of the text in twelve languages, and of `parts`."""
    text, words = str(data / "pretrain" / "??.txt.gz"), str(home / "vocabulary")
    return (
        ["vocab", text, "--size", "8000", "--sentences", "200000", "--alpha", "0.5", "--out", words],
        ["store", text, *parts, "--vocabulary", words, "--validation", "0.01", "--out", str(home / "store")],
    )


def settings(*bindings: str) -> list[str]:
    """The bindings as arguments."""
    return [word for binding in bindings for word in ("--set", binding)]


def run(study: Study, home: pathlib.Path, jobs: int) -> None:
    """Runs what isn't done yet, `jobs` commands at a time, the cores divided; a seed is scored once it is trained."""
    home.mkdir(parents=True, exist_ok=True)
    cores: queue.SimpleQueue[set[int]] = queue.SimpleQueue()
    own = sorted(os.sched_getaffinity(0))
    for job in range(jobs):
        cores.put(set(own[job::jobs]))
    for words in study.prepare:
        _baton(words, home, set(own))

    def baton(words: Command) -> None:
        mine = cores.get()
        try:
            _baton(words, home, mine)
        finally:
            cores.put(mine)

    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        trained = {pool.submit(baton, words): seed for seed, words in study.trained.items()}
        scored = []
        for future in concurrent.futures.as_completed(trained):
            future.result()
            scored += [pool.submit(baton, words) for words in study.scored.get(trained[future], ())]
        for future in scored:
            future.result()


def _baton(words: Command, home: pathlib.Path, cores: set[int]) -> None:
    mark = home / "done" / shlex.join(words).replace("/", "_")[:200]
    if mark.exists():
        return
    print("$ baton", shlex.join(words), flush=True)
    command = [pathlib.Path(sys.executable).parent / "baton", *words]
    code = subprocess.run(command, preexec_fn=lambda: os.sched_setaffinity(0, cores)).returncode
    if code:
        raise SystemExit(code)
    mark.parent.mkdir(exist_ok=True)
    mark.touch()


def score(stage: pathlib.Path, task: str, train: str = "en") -> list[float] | None:
    """One score a fine-tuning seed: the mean over all languages but the one that was learnt (all, where it is one)."""
    file = stage / "eval" / task / "scores.json"
    if not file.exists():
        return None
    found = json.loads(file.read_text())
    parts = {name: values["values"] for name, values in found["parts"].items() if not name.endswith(f":{train}")}
    if not parts:
        return found["test"]["values"]
    return [statistics.fmean(values) for values in zip(*parts.values(), strict=True)]


def figures(stage: pathlib.Path) -> dict[str, float]:
    """What the stage's evaluations said at its end, its `step`, `flops` and `tokens` of its lineage; {} before that."""
    done = stage / "done"
    if not done.exists():
        return {}
    spent = {name: sum(entry[name] for entry in lineage(stage)) for name in ("flops", "tokens")}
    found = json.loads(done.read_text())
    return found["scores"] | {"step": found["step"]} | spent


def lineage(stage: pathlib.Path) -> list[dict]:
    """What the stages that led to this one spent, and this one, oldest first."""
    newest = max((path.parent for path in stage.glob("checkpoints/*/complete")), key=lambda path: int(path.name))
    manifest = json.loads((newest / "manifest" / "metadata").read_text())
    own = {"stage": manifest["stage"], "params_digest": manifest["params_digest"], **manifest["spent"]}
    return [*manifest["lineage"], own]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Effect:
    """Differences of two models, by pretraining seed; `half` is that of the 95 % interval (Student's t)."""

    mean: float
    half: float
    n: int
    seeds: Mapping[int, float]

    def verdict(self, claim: str) -> str:
        """Of a claim that the difference is `below` 0, `above` it, or that the two are `alike`.

        `below` holds if the interval lies below 0 and the pretraining seeds agree in sign, `above` mirrored; `alike` if
        it lies within MARGIN of 0. The opposite (above 0, or wholly outside MARGIN) is *not reproduced*, anything else
        *undecided at this scale*.
        """
        low, high = self.mean - self.half, self.mean + self.half
        agree = len({value > 0 for value in self.seeds.values()}) == 1
        if claim == "alike":
            yes, no = -MARGIN <= low and high <= MARGIN, low > MARGIN or high < -MARGIN
        else:
            below, above = high < 0 and agree, low > 0 and agree
            yes, no = (below, above) if claim == "below" else (above, below)
        return "reproduced" if yes else "not reproduced" if no else "undecided at this scale"


def effect(differences: Mapping[int, Sequence[float]]) -> Effect | None:
    """The effect of differences, by pretraining seed; None for fewer than two."""
    values = [value for each in differences.values() for value in each]
    half = interval.half(values)
    if half is None:
        return None
    return Effect(
        mean=statistics.fmean(values),
        half=half,
        n=len(values),
        seeds={seed: statistics.fmean(each) for seed, each in differences.items() if each},
    )


def paired(
    one: Callable[[int, str], Sequence[float] | None],
    other: Callable[[int, str], Sequence[float] | None],
    seeds: Iterable[int],
    tasks: Sequence[str],
) -> Effect | None:
    """The effect of `one` minus `other`, task by task and seed by seed; each gives the scores of (seed, task)."""
    differences: dict[int, list[float]] = {}
    for seed in seeds:
        for task in tasks:
            a, b = one(seed, task), other(seed, task)
            if a is not None and b is not None:
                differences.setdefault(seed, []).extend(x - y for x, y in zip(a, b, strict=True))
    return effect(differences)


def row(text: str, difference: str, found: Effect | None, claim: str, scale: float = 100, digits: int = 2) -> str:
    """A row of the table of claims; effects are printed `scale` times, in points where it is 100."""
    said = f"| {text} | {difference} | "
    if found is None:
        return said + "– | – | 0 | – | not run |"

    def say(value: float) -> str:
        return f"{scale * value:+.{digits}f}"

    seeds = ", ".join(f"{seed}: {say(value)}" for seed, value in found.seeds.items())
    span = f"{say(found.mean - found.half)} to {say(found.mean + found.half)}"
    return f"{said}{say(found.mean)} | {span} | {found.n} | {seeds} | **{found.verdict(claim)}** |"


def head(unit: str = "points") -> list[str]:
    """The head of the table of claims."""
    return [
        f"| claim | difference of | effect, {unit} | 95 % interval | n | by pretraining seed | verdict |",
        "|---|---|---|---|---|---|---|",
    ]


def spread(values: Sequence[float], scale: float = 100, digits: int = 1) -> str:
    """Mean ± standard deviation (number)."""
    if not values:
        return "–"
    deviation = f" ± {scale * statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{scale * statistics.fmean(values):.{digits}f}{deviation} ({len(values)})"


def page(name: str, tables: Mapping[str, str]) -> None:
    """Puts tables between the marks of the page; its words stay."""
    file = HERE / f"{name}.md"
    text = file.read_text()
    for mark, table in tables.items():
        before, found, rest = text.partition(f"<!-- {mark} -->\n")
        _, end, after = rest.partition(f"<!-- end {mark} -->")
        if not found or not end:
            raise SystemExit(f"{file.name} has no marks for the table {mark!r}; add <!-- {mark} --> and its end")
        text = f"{before}{found}{table}\n{end}{after}"
    file.write_text(text)


def main(
    name: str,
    doc: str | None,
    study: Callable[[pathlib.Path, pathlib.Path], Study],
    tables: Callable[[pathlib.Path], Mapping[str, str]],
) -> None:
    """The command of a reproduction: `run`, which ends with `page`, or `page` alone."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "page"))
    parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path("../shared/data"))
    parser.add_argument("--workdir", type=pathlib.Path, default=pathlib.Path("runs") / name)
    parser.add_argument("--jobs", type=int, default=1, help="commands at a time, on cores of their own")
    given = parser.parse_args()
    if given.what == "run":
        run(study(given.data, given.workdir), given.workdir, given.jobs)
    page(name, tables(given.workdir))
