"""What a frozen auxiliary saves of a pair's step and what a step on corrupted text costs, beside what the ledger says.

    python -m benchmarks.metro_step --rounds 15

Four kinds of step in one process, which take turns, forwards and backwards: `joint` trains both encoders (ELECTRA),
`frozen` the main one while a frozen auxiliary corrupts (Fast-ELECTRA), `offline` the main one on corrupted text,
`plain` a masked LM of the main one's size. Each round gives a ratio of every step to the joint one's in that round, of
time and of processor time; on a machine with other work the latter is the steadier.
"""

import argparse
import dataclasses
import json
import pathlib
import statistics
import time
from typing import Any

import jax
import numpy as np

from models import encoder, heads, pair, stack
from recipes import costing, denoised, losses, mesh, metro, optimizers, recipe, schedules, state, step
from tasks import batches

SHARES = {"1/3": 3, "1/2": 2, "2/3": 1.5}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Random:
    """Rows of random tokens with 15 % targets."""

    rows: int
    length: int
    vocabulary: int

    def parts(self) -> tuple[str, ...]:
        """One."""
        return ("random",)

    def spec(self, batch: int) -> batches.Spec:
        """Of masked language modelling."""
        return batches.masked_spec(batch, self.length, round(0.15 * self.length))

    def batch(self) -> dict[str, np.ndarray]:
        """One batch."""
        rng = np.random.default_rng(0)
        made = {name: np.ones(shape, dtype) for name, (shape, dtype) in self.spec(self.rows).items()}
        made["encoder_inputs"] = rng.integers(4, self.vocabulary, (self.rows, self.length), dtype=np.int32)
        made["encoder_positions"][:] = np.arange(self.length)
        places = [np.sort(rng.permutation(self.length)[: made["targets"].shape[1]]) for _ in range(self.rows)]
        made["target_positions"] = np.stack(places).astype(np.int32)
        made["targets"] = rng.integers(4, self.vocabulary, made["targets"].shape, dtype=np.int32)
        return {**made, "part": np.zeros(self.rows, np.int32)}


def stages(asked: argparse.Namespace) -> dict[str, recipe.Stage]:
    """The stages by name; those of a pair are named after the auxiliary's share, as 'joint 1/3'."""
    main = stack.Stack(
        layers=asked.layers,
        width=asked.width,
        heads=asked.width // 64,
        mlp=4 * asked.width,
        max_positions=asked.length,
        unroll=asked.layers if asked.unroll else 1,
    )

    def stage(model: Any, loss: Any, frozen: tuple[str, ...] = ()) -> recipe.Stage:
        return recipe.Stage(
            name="benchmark",
            model=model,
            data=Random(rows=asked.rows, length=asked.length, vocabulary=asked.vocabulary),
            loss=loss,
            optimizer=optimizers.AdamW(schedule=schedules.Constant(peak=1e-4), decay=0.01),
            steps=1_000_000,
            batch=asked.rows,
            frozen=frozen,
        )

    every = {"vocabulary": asked.vocabulary, "dtype": asked.dtype}
    alone = {"stack": main, **every}
    found = {
        "plain": stage(encoder.Encoder(head=heads.MaskedLM(), **alone), losses.LanguageModel()),
        "offline": stage(encoder.Encoder(head=heads.ReplacedToken(), **alone), denoised.Denoised(clm=None)),
    }
    for share, divisor in SHARES.items():
        layers = round(asked.layers / divisor)
        small = dataclasses.replace(main, layers=layers, unroll=min(main.unroll, layers))
        both = pair.Pair(main=main, auxiliary=small, head=heads.ReplacedToken(), sharing=pair.Apart(), **every)
        found[f"joint {share}"] = stage(both, metro.Metro(mlm=1.0, clm=None))
        found[f"frozen {share}"] = stage(both, metro.Metro(mlm=None, clm=None), (r"auxiliary/.*",))
    return found


class Timed:
    """A compiled step, its state and a batch."""

    def __init__(self, stage: recipe.Stage):
        """Compiles, and runs two steps."""
        over = mesh.build(recipe.Mesh())
        layout = state.layout(stage, recipe.Rules(), over)
        self._state = state.begin(layout, state.initial(stage, layout, layout.leaves))
        self._batch = mesh.put(stage.data.batch(), over)
        self._step = step.compile_train(stage, recipe.Rules(), layout)
        self.run(2)

    def run(self, steps: int) -> tuple[float, float]:
        """Seconds of a step and seconds of processors, means of some."""
        start, used = time.perf_counter(), time.process_time()
        for _ in range(steps):
            self._state, stats = self._step(self._state, self._batch)
        jax.block_until_ready((self._state, stats))
        return (time.perf_counter() - start) / steps, (time.process_time() - used) / steps


Seconds = dict[str, list[tuple[float, float]]]


def measure(timed: dict[str, Timed], rounds: int, steps: int) -> Seconds:
    """For each name what `Timed.run` says in each round."""
    seconds: Seconds = {name: [] for name in timed}
    for number in range(rounds):
        for name in list(timed) if number % 2 else reversed(timed):
            seconds[name].append(timed[name].run(steps))
    return seconds


def table(of: dict[str, recipe.Stage], seconds: Seconds) -> list[dict[str, Any]]:
    """A row for each share and kind of step: what it costs of the joint step, by the ledger and by two clocks."""
    flops = {name: costing.of_stage(stage).flops for name, stage in of.items()}
    rows = []
    for share in SHARES:
        joint = f"joint {share}"
        for kind in ("joint", "frozen", "offline", "plain"):
            name = kind if kind in of else f"{kind} {share}"
            row: dict[str, Any] = {"share": share, "step": kind, "ledger": flops[name] / flops[joint]}
            for clock, what in enumerate(("time", "processor")):
                ratios = [ours[clock] / theirs[clock] for ours, theirs in zip(seconds[name], seconds[joint])]
                low, middle, high = statistics.quantiles(ratios, n=4)
                row[what] = {"ratio": middle, "quartiles": [low, high]}
                row[what]["seconds"] = statistics.median(each[clock] for each in seconds[name])
            rows.append(row)
    return rows


def main() -> None:
    """Measure, print a Markdown table, and write --json."""
    asked = _arguments()
    of = stages(asked)
    timed = {}
    for name, stage in of.items():
        start = time.perf_counter()
        timed[name] = Timed(stage)
        print(f"compiled {name} in {time.perf_counter() - start:.0f} s", flush=True)
    rows = table(of, measure(timed, asked.rounds, asked.steps))
    device = jax.devices()[0].device_kind
    shape = f"{asked.layers} layers x {asked.width}, {asked.vocabulary} ids, {asked.rows} x {asked.length}"
    print(f"\n{shape}, {asked.dtype}, {device}, {asked.rounds} rounds of {asked.steps}\n")
    print("| auxiliary : main | step | of the joint step: ledger | time, median (middle half) | processor time |")
    print("|---|---|---|---|---|")
    for row in rows:
        cells = [
            f"{row[what]['ratio']:.2f} ({row[what]['quartiles'][0]:.2f}–{row[what]['quartiles'][1]:.2f})"
            for what in ("time", "processor")
        ]
        print(f"| {row['share']} | {row['step']} | {row['ledger']:.2f} | {' | '.join(cells)} |")
    if asked.json:
        pathlib.Path(asked.json).write_text(
            json.dumps(vars(asked) | {"device": device, "table": rows}, indent=1) + "\n"
        )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=12, help="of the main encoder")
    parser.add_argument("--width", type=int, default=256, help="of both")
    parser.add_argument("--vocabulary", type=int, default=2000)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--unroll", action="store_true", help="layers one by one instead of in a loop")
    parser.add_argument("--rounds", type=int, default=10, help="turns of each step, at least 2")
    parser.add_argument("--steps", type=int, default=1, help="updates in a turn")
    parser.add_argument("--json", help="also write the figures to this file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
