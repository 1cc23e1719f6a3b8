"""Feed speed beside stock SeqIO: span corruption of the same text, packed to 512 inputs and 114 targets.

    python benchmarks/feed.py                                     bytes
    python benchmarks/feed.py --vocabulary DIR/vocabulary.model   SentencePiece

Both sides run in turns in this process, on all cores; the figures are tokens delivered a second, padding excluded, the
best round of each. SeqIO is measured from text, which it spells as it goes, and from ids that were spelt before, as a
token store is.
"""

import argparse
import itertools
import logging
import os
import pathlib
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import seqio
import tensorflow as tf
from t5.data import preprocessors

from tasks import blend, corpora, encoder, objectives, seqio_vocabulary, vocabulary, writer

INPUTS, TARGETS = 512, 114
ROOT = pathlib.Path(__file__).parent.parent
TEXT = ROOT.parent / "shared" / "data" / "pretrain"
SPLIT = "train"


def main() -> None:
    """Measures and prints."""
    logging.disable(logging.WARNING)
    asked = _arguments()
    with tempfile.TemporaryDirectory() as scratch:
        parts = corpora.parse(asked.text)
        spelling = vocabulary.encoder(asked.vocabulary)
        lines = [line for source in parts.values() for line in itertools.islice(source.documents(), asked.documents)]
        size = sum(len(line.encode()) for line in lines)
        print(f"{len(lines):,} documents, {size / 1e6:.1f} MB, {asked.vocabulary}, {os.cpu_count()} cores", flush=True)
        text = pathlib.Path(scratch, "text")
        text.write_text("\n".join(line.replace("\n", " ") for line in lines) + "\n")
        store = _store(lines, spelling, f"{scratch}/store")

        sides: dict[str, Callable[[], Iterator[Mapping[str, np.ndarray]]]] = {
            "Baton, token store": lambda: store.feed(batch=asked.rows, seed=0),
            "SeqIO + t5, from text": lambda: _stock(_from_text(text), spelling, asked.rows),
            "SeqIO + t5, from ids": lambda: _stock(_from_ids(lines, spelling), spelling, asked.rows),
        }
        best = dict.fromkeys(sides, 0.0)
        for round_ in range(asked.rounds):
            for name, start in sides.items():
                rate = _measure(start(), asked.seconds)
                best[name] = max(best[name], rate)
                print(f"round {round_}: {name:24} {rate / 1e6:6.2f} M tokens/s", flush=True)
    ours, *others = best.items()
    print(f"\n{ours[0]}: {ours[1] / 1e6:.2f} M tokens/s")
    for name, rate in others:
        print(f"{name}: {rate / 1e6:.2f} M tokens/s, ratio {ours[1] / rate:.2f}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = [str(TEXT / "*.txt.gz")] if TEXT.is_dir() else ["cldr:4000"]
    parser.add_argument("--text", nargs="+", default=default, help="as for `baton store`: files, globs, cldr:COUNT")
    parser.add_argument("--documents", type=int, default=5_000, help="of each part at most so many")
    parser.add_argument("--vocabulary", default="bytes", help="'bytes', a .model or .json file, or a directory")
    parser.add_argument("--rows", type=int, default=64, help="rows of a batch")
    parser.add_argument("--seconds", type=float, default=8.0, help="of a round of one side")
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


def _measure(batches: Iterator[Mapping[str, np.ndarray]], seconds: float) -> float:
    """Returns tokens delivered a second, after the first batch."""
    next(batches)
    tokens, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < seconds:
        batch = next(batches)
        names = (
            ("encoder_inputs", "targets") if "targets" in batch else ("encoder_input_tokens", "decoder_target_tokens")
        )
        tokens += sum(int(np.count_nonzero(batch[name])) for name in names)
    close = getattr(batches, "close", None)
    if close is not None:
        close()
    return tokens / spent


def _store(lines: Iterable[str], spelling: encoder.Encoder, directory: str) -> blend.Blend:
    ids = [np.append(one, spelling.specials.eos) for one in spelling.encode(list(lines))]
    writer.write(directory, "text", ids, vocabulary=spelling.card)
    return blend.Blend(store=directory, objective=objectives.SpanCorruption(), inputs=INPUTS, targets=TARGETS)


def _from_text(path: pathlib.Path) -> tuple[seqio.DataSource, list]:
    source = seqio.TextLineDataSource({SPLIT: str(path)})
    return source, [lambda data: data.map(lambda line: {"targets": line}), seqio.preprocessors.tokenize]


def _from_ids(lines: list[str], spelling: encoder.Encoder) -> tuple[seqio.DataSource, list]:
    spelt = spelling.encode(lines)
    ragged: Any = tf.RaggedTensor
    ids = ragged.from_row_lengths(np.concatenate(spelt), [len(one) for one in spelt])

    def read(split: str, shuffle_files: bool, seed: int | None = None) -> tf.data.Dataset:
        del split, shuffle_files, seed
        return tf.data.Dataset.from_tensor_slices(ids).map(lambda one: {"targets": one})

    return seqio.FunctionDataSource(read, splits=(SPLIT,)), []


def _stock(
    found: tuple[seqio.DataSource, list], spelling: encoder.Encoder, rows: int
) -> Iterator[Mapping[str, np.ndarray]]:
    """Returns batches of T5's own pretraining pipeline."""
    source, steps = found
    feature = seqio.Feature(seqio_vocabulary.wrap(spelling), add_eos=True)
    task = seqio.Task(
        "benchmark",
        source=source,
        preprocessors=[*steps, preprocessors.span_corruption, seqio.preprocessors.append_eos],
        output_features={"inputs": feature, "targets": feature},
    )
    data = seqio.get_dataset(
        task,
        task_feature_lengths={"inputs": INPUTS, "targets": TARGETS},
        feature_converter=seqio.EncDecFeatureConverter(pack=True),
        dataset_split=SPLIT,
        shuffle=True,
        num_epochs=None,
        seed=0,
        verbose=False,
    )
    return data.batch(rows, drop_remainder=True).prefetch(tf.data.AUTOTUNE).as_numpy_iterator()


if __name__ == "__main__":
    main()
