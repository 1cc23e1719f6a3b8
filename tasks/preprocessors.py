"""SeqIO preprocessors that carry text or stored tokens to the features of an objective. Imports TensorFlow.

The objective is the numpy function that also feeds from a store; only its random numbers come from SeqIO here.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from tasks import batches, objective, pieces, specials

Lengths = Mapping[str, int]


def spell(vocabulary: seqio.Vocabulary, eos: int) -> Callable[[tf.data.Dataset], tf.data.Dataset]:
    """Returns the preprocessor from {'text'} to {'tokens': ids, EOS at the end}."""

    def one(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        ids = tf.cast(vocabulary.encode_tf(example["text"]), tf.int32)
        return {"tokens": tf.concat([ids, [eos]], 0)}

    def every(dataset: tf.data.Dataset) -> tf.data.Dataset:
        spelt = dataset.map(one, num_parallel_calls=tf.data.AUTOTUNE)
        # Normalisation may leave nothing of a text.
        return spelt.filter(lambda example: tf.size(example["tokens"]) > 1)

    return every


def windows(goal: objective.Objective) -> Callable[..., tf.data.Dataset]:
    """Returns the preprocessor that joins documents to a stream and cuts it into the objective's windows."""

    def cut(dataset: tf.data.Dataset, sequence_length: Lengths) -> tf.data.Dataset:
        window = goal.window(*lengths(sequence_length))
        stream = dataset.map(lambda example: example["tokens"]).unbatch()
        return stream.batch(window).map(lambda tokens: {"tokens": tokens})

    return cut


def features(
    goal: objective.Objective, special: specials.Specials, *, separate: bool = True
) -> Callable[..., tf.data.Dataset]:
    """Returns the preprocessor from a window of tokens to one row of the batch contract.

    Args:
        goal: the objective.
        special: special ids of the vocabulary.
        separate: whether documents are segments of their own; else they are joined with the doc token between.
    """

    def make(dataset: tf.data.Dataset, sequence_length: Lengths) -> tf.data.Dataset:
        inputs, targets = lengths(sequence_length)
        spec = goal.spec(1, inputs, targets)

        def numpy_row(tokens: np.ndarray, seed: np.ndarray) -> list[np.ndarray]:
            rng = np.random.default_rng(seed.astype(np.uint32))
            found = row(tokens, rng, goal, special, inputs=inputs, targets=targets, separate=separate)
            return [found[name] for name in spec]

        def tf_row(example: dict[str, tf.Tensor], seed: tf.Tensor) -> dict[str, tf.Tensor]:
            kinds = [tf.as_dtype(dtype) for _, dtype in spec.values()]
            values = tf.numpy_function(numpy_row, [example["tokens"], seed], kinds, stateful=False)
            for value, (shape, _) in zip(values, spec.values(), strict=True):
                value.set_shape(shape[1:])
            return dict(zip(spec, values, strict=True))

        mapped: Any = seqio.map_over_dataset(tf_row, num_seeds=1)
        return mapped(dataset)

    return make


def row(
    tokens: np.ndarray,
    rng: np.random.Generator,
    goal: objective.Objective,
    special: specials.Specials,
    *,
    inputs: int,
    targets: int,
    separate: bool = True,
) -> batches.Batch:
    """Returns the features of one window of tokens, as the feed from a store makes them.

    Args:
        tokens: [window] ids; EOS ends each document.
        rng: where the randomness comes from.
        goal: the objective.
        special: special ids of the vocabulary.
        inputs: length of a row's inputs.
        targets: length of a row's targets.
        separate: whether documents are segments of their own.
    """
    cuts = np.flatnonzero(tokens[:-1] == special.eos) + 1
    found = pieces.Pieces.of([np.split(tokens, cuts)])
    if not separate:
        found = found.joined(eos=special.eos, doc=special.need("doc", "separate=False"))
    made = goal.rows(found, [rng], inputs=inputs, targets=targets, specials=special)
    return {name: value[0] for name, value in made.items()}


def output_features(
    goal: objective.Objective, vocabulary: seqio.Vocabulary, *, inputs: int = 8, targets: int = 8
) -> dict[str, Any]:
    """Returns what SeqIO must know of each feature; the lengths given here do not matter.

    Args:
        goal: the objective.
        vocabulary: of the features that hold ids.
        inputs: any length that the objective takes.
        targets: any length that the objective takes.
    """
    # Segments, positions and weights are not ids: SeqIO must not look for them in a vocabulary.
    counts = seqio.PassThroughVocabulary(size=2**31 - 1)

    def feature(name: str, shape: tuple[int, ...], dtype: Any) -> Any:
        ids = name in ("targets", "encoder_inputs", "decoder_inputs")
        return seqio.Feature(
            vocabulary if ids else counts, add_eos=False, dtype=tf.as_dtype(dtype), rank=len(shape) - 1
        )

    return {name: feature(name, *what) for name, what in goal.spec(1, inputs, targets).items()}


def lengths(sequence_length: Lengths | None) -> tuple[int, int]:
    """Returns the lengths of a row's inputs and targets (0 where it is missing) that SeqIO was asked for.

    Raises:
        ValueError: no 'inputs'.
    """
    found = sequence_length or {}
    if "inputs" not in found:
        raise ValueError(f"the lengths {dict(found)} lack 'inputs': give the length of a row's inputs and targets")
    return found["inputs"], found.get("targets") or 0


class Rows(seqio.Task):
    """A task whose examples are whole rows of the batch contract, cut to nothing shorter.

    SeqIO trims the feature 'targets' to the length of that name; in a row of a decoder alone, or of masked tokens, the
    two are not the same.
    """

    def get_dataset(self, *args: Any, **options: Any) -> tf.data.Dataset:
        """Returns the rows; takes the arguments of `seqio.Task.get_dataset`."""
        return super().get_dataset(*args, **{**options, "trim_output_features": False})
