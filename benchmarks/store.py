"""Text tokenised into a store, in MB/s, beside a plain SentencePiece loop over the same text in one process.

    python -m benchmarks.store 'data/*.txt.gz' [--vocabulary DIR] [--megabytes 64] [--processes 2] [--repeats 3]

Both sides read the same gzipped lines, spell them with the same model and write ids and document lengths to disk.
"""

import argparse
import json
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable

import numpy as np
import sentencepiece

from tasks import encoder, sentencepieces, sources, tokenize, vocabulary, workers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", help="files of one document a line, a path or glob")
    parser.add_argument("--vocabulary", help="of `baton vocab`; by default one of 8000 ids is trained first")
    parser.add_argument("--megabytes", type=float, default=64.0, help="of text to tokenise, from the first line on")
    parser.add_argument("--processes", type=int, default=workers.cores(), help="that build the store")
    parser.add_argument("--repeats", type=int, default=3, help="of each measurement; the median is shown")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = pathlib.Path(scratch)
        text = sources.Lines(files=str(root / "text.txt"))
        size = _copy(sources.Lines(files=arguments.text), root / "text.txt", arguments.megabytes)
        spelling = _vocabulary(arguments.vocabulary, text, root / "vocabulary")
        sides: dict[str, Callable[[int], None]] = {
            "SentencePiece loop, 1 process": lambda number: _loop(text, spelling, root / f"loop{number}"),
            "baton store, 1 process": lambda number: _build(text, spelling, root / f"one{number}", 1),
            f"baton store, {arguments.processes} processes": (
                lambda number: _build(text, spelling, root / f"many{number}", arguments.processes)
            ),
        }
        seconds = {name: [] for name in sides}
        # Sides take turns, so that a busy moment of the machine does not fall on one alone.
        for number in range(arguments.repeats):
            for name, run in sides.items():
                start = time.perf_counter()
                run(number)
                seconds[name].append(time.perf_counter() - start)
    speeds = {name: size / 1e6 / statistics.median(found) for name, found in seconds.items()}
    base = next(iter(speeds.values()))
    result = {
        "megabytes": size / 1e6,
        "vocabulary": spelling.specials.size,
        "cores": workers.cores(),
        "MB/s": {name: round(speed, 2) for name, speed in speeds.items()},
        "ratio": {name: round(speed / base, 2) for name, speed in speeds.items()},
    }
    if arguments.json:
        print(json.dumps(result))
        return
    print(f"{size / 1e6:.1f} MB of text, {spelling.specials.size} ids, {result['cores']} cores")
    for name, speed in speeds.items():
        print(f"{name:34}  {speed:6.2f} MB/s  {speed / base:5.2f} x")


def _copy(source: sources.Source, path: pathlib.Path, megabytes: float) -> int:
    """Copies so much text to plain lines, so that neither side pays for more files or less compression."""
    written = 0
    with path.open("wb") as file:
        for text in source.documents():
            written += file.write(text.encode() + b"\n")
            if written >= megabytes * 1e6:
                break
    return written


def _vocabulary(path: str | None, text: sources.Source, directory: pathlib.Path) -> encoder.Encoder:
    if path is None:
        return vocabulary.train({"text": text}, directory, size=8000, sentences=20_000)
    return vocabulary.encoder(path)


def _build(text: sources.Source, spelling: encoder.Encoder, directory: pathlib.Path, processes: int) -> None:
    tokenize.build({"text": text}, spelling, directory, processes=processes)


def _loop(text: sources.Source, spelling: encoder.Encoder, directory: pathlib.Path) -> None:
    """What one would write by hand."""
    if not isinstance(spelling, sentencepieces.SentencePiece):
        raise SystemExit("this benchmark compares SentencePiece models: name a directory of `baton vocab`")
    directory.mkdir()
    processor = sentencepiece.SentencePieceProcessor(model_file=spelling.path)
    lengths = []
    with (directory / "ids").open("wb") as ids, open(str(text.files)) as lines:  # pyright: ignore
        for line in lines:
            document = processor.encode(line.rstrip("\n"))
            document.append(1)
            lengths.append(len(document))
            np.array(document, np.uint16).tofile(ids)
    np.save(directory / "lengths.npy", np.array(lengths))


if __name__ == "__main__":
    main()
