"""Peak memory of importing and exporting a model of T5-3B's shape in bfloat16, on generated weights.

  python -m benchmarks.convert --dir /tmp/three --layers 24

Each direction runs as its own process, as a user runs it; its peak resident memory is what the kernel reports.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

import ml_dtypes
import numpy as np

from models.families import known, rules
from recipes.exchange import tensors


def generate(folder: pathlib.Path, layers: int) -> tuple[int, int]:
    """Writes a checkpoint of T5-3B's shape; returns its parameters and the bytes of its largest in float32."""
    config = {"model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "vocab_size": 32128}
    config |= {"d_model": 1024, "d_kv": 128, "d_ff": 16384, "num_layers": layers, "num_heads": 32}
    _, model = known.read(config, "config", lambda name: False, lambda left, right: False)
    leaves = model.abstract()
    made = rules.bundles(known.names(model, "t5"), leaves)
    shapes = {name: shape for bundle in made for name, shape in bundle.tensors.items()}
    folder.mkdir(parents=True)
    writer = tensors.Writer(str(folder), shapes, "bfloat16", 5_000_000_000)
    for number, (name, shape) in enumerate(shapes.items()):
        row = np.arange(shape[-1], dtype=np.float32) / shape[-1] + number
        writer.put(name, np.broadcast_to(row.astype(ml_dtypes.bfloat16), shape))
    (folder / "config.json").write_text(json.dumps(config))
    sizes = [leaf.size for leaf in leaves.values()]
    return sum(sizes), 4 * max(sizes)


def peak(*words: str) -> tuple[float, float, str]:
    """GB and seconds of one command, and the last line that it prints."""
    start = time.time()
    process = subprocess.Popen([sys.executable, "-m", "recipes.cli", *words], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines = process.stdout.read().splitlines()
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"baton {' '.join(words)} failed")
    return used.ru_maxrss * 1024 / 1e9, time.time() - start, lines[-1]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", required=True, help="a directory to be made; about 30 GB, removed at the end")
    parser.add_argument("--layers", type=int, default=24)
    arguments = parser.parse_args()
    root = pathlib.Path(arguments.dir)
    root.mkdir(parents=True)
    try:
        count, largest = generate(root / "hf", arguments.layers)
        print(f"{count:,} parameters, the largest {largest / 1e9:.2f} GB in float32")
        stage, out = str(root / "run" / "start"), f"hf:{root / 'out'}"
        for words in (("convert", f"hf:{root / 'hf'}", stage), ("convert", stage, out, "--dtype", "bfloat16")):
            used, seconds, last = peak(*words)
            beyond = used - largest / 1e9
            print(f"peak {used:.2f} GB, {beyond:.2f} beyond the largest parameter, {seconds:.0f} s; {last}", flush=True)
    finally:
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
