"""Speed of the real train step, beside Hugging Face transformers on the same shape in the same run.

    python -m benchmarks.step                                        T5 1.1 small, float32, on what there is
    python -m benchmarks.step --shape t5_1_1_base --dtype bfloat16
    python -m benchmarks.step --peer none --profile                  where our time goes

Each side is a process of its own, and they take turns: while one runs a round the other waits without using the
machine. Tokens are inputs and targets, of which none is padding. MFU is model FLOPs (three forward passes' products
and attention) over the device's bfloat16 peak, and is given for bfloat16 on devices whose peak is known.
"""

import argparse
import json
import multiprocessing
import os
import pathlib
import platform
import statistics
import sys
import time
from typing import Any

from benchmarks import peers_step, shapes


class Ours:
    """`recipes.step` compiled for a stage of this shape, its state and one batch of random tokens."""

    def __init__(self, name: str, dtype: str, rows: int, threads: int, *, remat: str, unroll: bool, chunk: int):
        del threads
        import jax

        from recipes import losses, mesh, optimizers, recipe, schedules, state, step

        self._jax = jax
        shape = shapes.named(name, dtype, remat=remat, unroll=unroll)
        self.stage = recipe.Stage(
            name="benchmark",
            model=shape.model,
            data=_OnePart(),
            loss=losses.LanguageModel(chunk=chunk),
            optimizer=optimizers.AdamW(schedule=schedules.Constant(peak=1e-4), decay=0.01),
            steps=1_000_000,
            batch=rows,
        )
        over = mesh.build(recipe.Mesh())
        self.layout = state.layout(self.stage, recipe.Rules(), over)
        self.state = state.begin(self.layout, state.initial(self.stage, self.layout, self.layout.leaves))
        self.batch = mesh.put(shape.batch(rows), over)
        self._step = step.compile_train(self.stage, recipe.Rules(), self.layout)

    def run(self, steps: int) -> float:
        """Seconds that `steps` updates take."""
        start = time.perf_counter()
        for _ in range(steps):
            self.state, stats = self._step(self.state, self.batch)
        self._jax.block_until_ready((self.state, stats))
        return time.perf_counter() - start


class _OnePart:
    def parts(self) -> tuple[str, ...]:
        return ("random",)


class Side:
    """One side in its own process: `run` blocks until it has done a round."""

    def __init__(self, side: str, arguments: dict[str, Any], environment: dict[str, str]):
        before = dict(os.environ)
        os.environ.update(environment)
        self._pipe, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        self._process = context.Process(target=_serve, args=(theirs, side, arguments), daemon=True)
        self._process.start()
        theirs.close()
        os.environ.clear()
        os.environ.update(before)

    def run(self, steps: int) -> float:
        """Seconds for `steps` updates."""
        self._pipe.send(steps)
        try:
            return self._pipe.recv()
        except EOFError:
            raise SystemExit("step: a side ended early; its message is above") from None

    def stop(self) -> None:
        """End the process."""
        self._pipe.send(0)
        self._process.join()


def _serve(pipe: Any, side: str, arguments: dict[str, Any]) -> None:
    one = Ours(**arguments) if side == "ours" else peers_step.Peer(**arguments)
    while steps := pipe.recv():
        pipe.send(one.run(steps))


def main() -> None:
    """Measure, print, and write --json."""
    asked = _arguments()
    # Three processes share the device: none may take all of its memory at once.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    import jax

    from recipes import allocator, peaks

    device, count = jax.devices()[0], len(jax.devices())
    threads = len(os.sched_getaffinity(0))
    shape = shapes.named(asked.shape, asked.dtype)
    rows = asked.rows or (shape.cpu_rows if device.platform == "cpu" else shape.rows)
    work = {"name": asked.shape, "dtype": asked.dtype, "rows": rows, "threads": threads}
    unroll = device.platform == "cpu" if asked.layers == "auto" else asked.layers == "unrolled"
    ours = work | {"remat": asked.remat, "unroll": unroll, "chunk": asked.chunk}
    hardware = f"{count} x {device.device_kind}" if device.platform != "cpu" else f"{_processor()}, {threads} cores"
    print(f"{asked.shape}, {asked.dtype}, {rows} x ({shape.inputs} + {shape.targets}) tokens, {hardware}", flush=True)
    # What `baton run` does on a CPU, unless GLIBC_TUNABLES is set; the peer's users run it as it comes, or --tune-peer.
    tuned = {"GLIBC_TUNABLES": allocator.TUNABLES} if allocator.wanted() else {}
    sides = {f"Baton, jax {jax.__version__}": Side("ours", ours, tuned)}
    if asked.peer == "transformers":
        try:
            theirs = work | {"dtype": asked.peer_dtype or asked.dtype}
            sides[peers_step.versions()] = Side("peer", theirs, tuned if asked.tune_peer else {})
        except ImportError as error:
            print(f"no peer: {error}", file=sys.stderr)
    for name, side in sides.items():
        print(f"first step of {name}: {side.run(1):.1f} s", flush=True)
        side.run(1)
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(asked.rounds):
        for name, side in sides.items():
            seconds[name].append(side.run(asked.steps) / asked.steps)
    for side in sides.values():
        side.stop()
    peak = peaks.flops(device.device_kind) if asked.dtype == "bfloat16" else None
    report = _report(seconds, shape, rows, None if peak is None else peak * count)
    _print(report)
    if asked.profile:
        from benchmarks import step_parts

        report["parts"] = step_parts.measure(Ours(**ours), asked.steps)
        step_parts.show(report["parts"])
    if asked.json:
        about = {
            "shape": asked.shape,
            "dtype": asked.dtype,
            "peer_dtype": asked.peer_dtype or asked.dtype,
            "rows": rows,
            "hardware": hardware,
            "unrolled": unroll,
        }
        pathlib.Path(asked.json).write_text(json.dumps(about | report, indent=1) + "\n")


def _report(seconds: dict[str, list[float]], shape: shapes.Shape, rows: int, peak: float | None) -> dict[str, Any]:
    """Medians over the rounds and, between the sides, the ratio in each round."""
    sides = {}
    for name, times in seconds.items():
        rates = [shape.tokens(rows) / one for one in times]
        flops = shape.flops(rows) / statistics.median(times)
        sides[name] = {
            "tokens_per_second": statistics.median(rates),
            "range": [min(rates), max(rates)],
            "teraflops": flops / 1e12,
            "mfu": None if peak is None else flops / peak,
        }
    report: dict[str, Any] = {"sides": sides}
    if len(seconds) == 2:
        ours, theirs = seconds.values()
        ratios = [b / a for a, b in zip(ours, theirs)]
        report["ratio"] = {"median": statistics.median(ratios), "range": [min(ratios), max(ratios)]}
    return report


def _print(report: dict[str, Any]) -> None:
    print(f"\n{'':44}{'tokens/s':>10}{'lowest':>10}{'highest':>10}{'TFLOP/s':>10}{'MFU':>8}")
    for name, side in report["sides"].items():
        mfu = "-" if side["mfu"] is None else f"{side['mfu']:.1%}"
        rates = [side["tokens_per_second"], *side["range"]]
        print(f"{name:44}" + "".join(f"{rate:>10,.0f}" for rate in rates) + f"{side['teraflops']:>10.2f}{mfu:>8}")
    if "ratio" in report:
        low, high = report["ratio"]["range"]
        print(f"ratio {report['ratio']['median']:.2f} (rounds from {low:.2f} to {high:.2f})")


def _processor() -> str:
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=shapes.NAMES, default="t5_1_1_small")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--rows", type=int, help="rows of a batch; default: 8 on a CPU, the shape's own elsewhere")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each side")
    parser.add_argument("--steps", type=int, default=1, help="updates in a turn")
    parser.add_argument("--peer", choices=("transformers", "none"), default="transformers")
    parser.add_argument("--peer-dtype", choices=("float32", "bfloat16"), help="the peer's, where it differs")
    parser.add_argument("--tune-peer", action="store_true", help="the C library's memory settings for the peer too")
    parser.add_argument("--remat", choices=("none", "dots", "full"), default="none", help="ours alone")
    layers = "ours alone; auto: unrolled on a CPU, where a loop copies the states kept for the backward pass"
    parser.add_argument("--layers", choices=("auto", "unrolled", "scanned"), default="auto", help=layers)
    parser.add_argument("--chunk", type=int, default=1024, help="tokens whose logits exist at one time, ours alone")
    parser.add_argument("--profile", action="store_true", help="time the parts of our step")
    parser.add_argument("--json", help="also write the figures to this file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
