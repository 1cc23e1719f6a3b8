"""Downstream sets as SeqIO tasks. Imports TensorFlow."""

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from tasks import encoder, forms, records, seqio_vocabulary, vocabulary

# Records that are spelt together.
_BATCH = 256

_HOLDS: Mapping[str, Any] = {
    "ids": ([None], tf.int32),
    "places": ([None, 2], tf.int32),
    "text": ([], tf.string),
    "texts": ([None], tf.string),
}

Classes = tuple[str, ...]
Convert = Callable[[Mapping[str, Any]], records.Record | None]


class Recorded(seqio.Task):
    """A task that knows what it was made from.

    Attributes:
        made_from: anything that can be compared.
    """

    def __init__(self, *args: Any, made_from: Any, **options: Any):
        """Takes the arguments of `seqio.Task`."""
        super().__init__(*args, **options)
        self.made_from = made_from


def current(name: str, made_from: Any) -> bool:
    """Returns whether a task of this name is registered that was made from the same."""
    return name in seqio.TaskRegistry.names() and made_from == getattr(seqio.TaskRegistry.get(name), "made_from", None)


def source(read: Callable[[str], list[records.Record]], splits: tuple[str, ...]) -> seqio.DataSource:
    """Returns the source of the records that `read` has for a split; it is called when a dataset is asked for."""

    def dataset(split: str, shuffle_files: bool, seed: int | None = None) -> tf.data.Dataset:
        del shuffle_files, seed  # a task shuffles its examples
        lines: Any = {"record": [records.dump(record) for record in read(split)]}
        return tf.data.Dataset.from_tensor_slices(lines)

    return seqio.FunctionDataSource(dataset, splits=splits)


def downloaded(name: str, directory: str) -> seqio.DataSource:
    """Returns the source of a set of TensorFlow Datasets, prepared when it is first asked for.

    Args:
        name: with its version.
        directory: where it lies; '' is the library's own.
    """
    return seqio.TfdsDataSource(tfds_name=name, tfds_data_dir=directory or None)


def register(
    name: str,
    origin: Any,
    form: Callable[[Classes], forms.Form],
    classes: Callable[[], Classes],
    path: str,
    *,
    made_from: Any,
    convert: Convert | None = None,
    needs: tuple[str, ...] = ("record",),
) -> None:
    """Registers a task, in place of one of the same name.

    Args:
        name: of the task.
        origin: the SeqIO source of its examples.
        form: makes the form for some classes.
        classes: returns the classes; called when a dataset is asked for.
        path: of the vocabulary, as `vocabulary.encoder` takes it.
        made_from: see `Recorded`.
        convert: from the source's examples, as numpy values, to records, None for one that is left out; without it
            they are records as `source` gives them.
        needs: features that the source's examples must have.

    Raises:
        ValueError: no such vocabulary.
    """
    spell, spec = _vocabulary(path), form(()).spec
    text = seqio.Feature(seqio_vocabulary.wrap(spell))
    numbers = seqio.Feature(seqio.PassThroughVocabulary(size=2**31 - 1), add_eos=False)
    _forget(seqio.TaskRegistry, name)
    seqio.TaskRegistry.add(
        name,
        source=origin,
        preprocessors=[_spelt(name, lambda: form(classes()), spell, convert or _load, needs)],
        output_features={"inputs": text, "targets": text if "references" in spec else numbers},
        task_cls=Recorded,
        made_from=made_from,
    )


def mix(name: str, tasks: list[str]) -> None:
    """Registers the mixture of tasks at rate 1, in place of one of the same name, unless it holds these already."""
    if name in seqio.MixtureRegistry.names():
        held = [id(task) for task in seqio.MixtureRegistry.get(name).tasks]
        if held == [id(seqio.TaskRegistry.get(task)) for task in tasks]:
            return
    _forget(seqio.MixtureRegistry, name)
    seqio.MixtureRegistry.add(name, tasks, default_rate=1.0)


@functools.lru_cache(maxsize=2)
def _vocabulary(path: str) -> encoder.Encoder:
    return vocabulary.encoder(path)


def _forget(registry: Any, name: str) -> None:
    if name in registry.names():
        registry.remove(name)


def _load(example: Mapping[str, Any]) -> records.Record:
    return records.load(example["record"])


def _spelt(
    name: str,
    form: Callable[[], forms.Form],
    spell: encoder.Encoder,
    convert: Convert,
    needs: tuple[str, ...],
) -> Callable[..., tf.data.Dataset]:
    def every(dataset: tf.data.Dataset, sequence_length: Mapping[str, int] | None = None) -> tf.data.Dataset:
        there: Any = dataset.element_spec
        lacking = sorted(set(needs) - set(there))
        if lacking:
            raise ValueError(f"{name!r} needs the features {needs} but its source has no {lacking[0]!r}")
        made, lengths = form(), dict(sequence_length or {})
        # A length that no example fits in is refused here, not inside TensorFlow.
        list(made.features([], spell, lengths))
        spec = made.spec
        signature = {feature: tf.TensorSpec(*_HOLDS[holds]) for feature, holds in spec.items()}

        def examples() -> Iterator[forms.Example]:
            raw: Any = dataset.as_numpy_iterator()
            found = filter(None, map(convert, raw))
            while batch := list(itertools.islice(found, _BATCH)):
                for example in made.features(batch, spell, lengths):
                    yield {key: _whole(value, spec[key]) for key, value in example.items()}

        return tf.data.Dataset.from_generator(examples, output_signature=signature)

    return every


def _whole(value: Any, holds: str) -> Any:
    return np.array(value, object) if holds == "texts" else value
