"""The built-in corpus's labelled tasks for SeqIO. Imports TensorFlow.

    cldr:translate:en_de  inputs 'de: Thursday, March 14, 2024', targets 'Donnerstag, 14. März 2024', both with EOS
    cldr:label:en         inputs a sentence with EOS; targets, as long: the id in TAGS of a word on its first sub-word,
                          -100 on the others and on EOS
    cldr:classify:en      inputs a sentence with EOS; targets one id, in KINDS

Each has splits 'train', 'validation' and 'test' that share no date, amount, measure or list. The mixtures
cldr:translate, cldr:label and cldr:classify hold all tasks of a sort alike.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from tasks import alignment, cldr, cldr_examples, encoder, seqio_vocabulary, vocabulary

EXAMPLES: Mapping[str, int] = {"train": 20_000, "validation": 500, "test": 500}

Example = dict[str, Any]


def register(
    spelling: encoder.Encoder | seqio.Vocabulary | str,
    *,
    corpus: cldr.Cldr | None = None,
    examples: Mapping[str, int] = EXAMPLES,
) -> tuple[str, ...]:
    """Registers the tasks and mixtures, in place of those that were registered before; returns the tasks' names.

    Args:
        spelling: the vocabulary of texts, or the path that `vocabulary.encoder` opens.
        corpus: its languages and its seed; the default has all twelve.
        examples: how many of each split.

    Raises:
        ValueError: no such vocabulary.
    """
    corpus = corpus or cldr.Cldr()
    if isinstance(spelling, str):
        spelling = vocabulary.encoder(spelling)
    wrapped = spelling if isinstance(spelling, seqio.Vocabulary) else seqio_vocabulary.wrap(spelling)
    spell = spelling if isinstance(spelling, encoder.Encoder) else seqio_vocabulary.unwrap(spelling)
    text = seqio.Feature(wrapped)
    names: dict[str, list[str]] = {"translate": [], "label": [], "classify": []}
    for language in corpus.languages:
        for sort, make, classes in (
            ("label", _label, cldr_examples.TAGS),
            ("classify", _classify, cldr_examples.KINDS),
        ):
            ids = seqio.Feature(seqio.PassThroughVocabulary(len(classes)), add_eos=False)
            source = _source(functools.partial(make, spell, language, corpus.seed), examples)
            names[sort].append(_add(f"cldr:{sort}:{language}", source, [], {"inputs": text, "targets": ids}))
        for target in corpus.languages:
            if target != language:
                source = _source(functools.partial(_translate, language, target, corpus.seed), examples, text=True)
                steps = [seqio.preprocessors.tokenize, seqio.preprocessors.append_eos]
                features = {"inputs": text, "targets": text}
                names["translate"].append(_add(f"cldr:translate:{language}_{target}", source, steps, features))
    for sort, tasks in names.items():
        _forget(seqio.MixtureRegistry, f"cldr:{sort}")
        if tasks:
            seqio.MixtureRegistry.add(f"cldr:{sort}", tasks, default_rate=1.0)
    return tuple(name for tasks in names.values() for name in tasks)


@functools.lru_cache(maxsize=1)
def ensure(path: str) -> None:
    """Registers them for the vocabulary at `path`, unless the call before did."""
    register(path)


def _add(name: str, source: Any, steps: list[Any], features: dict[str, Any]) -> str:
    _forget(seqio.TaskRegistry, name)
    seqio.TaskRegistry.add(name, source=source, preprocessors=steps, output_features=features)
    return name


def _forget(registry: Any, name: str) -> None:
    if name in registry.names():
        registry.remove(name)


def _source(make: Callable[[str, int], Example], examples: Mapping[str, int], text: bool = False) -> Any:
    """Returns the examples `make(split, index)`; with `text` their features are strings, yet to be tokenised."""
    names = ("inputs", "targets") if text else ("inputs", "targets", "inputs_pretokenized", "targets_pretokenized")
    ids = tf.TensorSpec([None], tf.int32)  # pyright: ignore[reportArgumentType]
    words = tf.TensorSpec([], tf.string)  # pyright: ignore[reportArgumentType]
    signature = {name: words if text or "_" in name else ids for name in names}

    def dataset(split: str, shuffle_files: bool, seed: int | None = None) -> Any:
        del shuffle_files, seed  # the order of the examples is one of chance already

        def generate() -> Iterator[Example]:
            return (make(split, index) for index in range(examples[split]))

        return tf.data.Dataset.from_generator(generate, output_signature=signature)

    return seqio.FunctionDataSource(dataset, splits=tuple(examples), num_input_examples=dict(examples))


def _label(spell: encoder.Encoder, language: str, seed: int, split: str, index: int) -> Example:
    found = cldr_examples.label(language, index, split=split, seed=seed)
    classes = [cldr_examples.TAGS.index(tag) for tag in found["tags"]]
    ids, labels = alignment.labels(spell, found["text"], found["tokens"], classes)
    return {
        "inputs": np.append(ids, np.int32(spell.specials.eos)),
        "targets": np.append(labels, np.int32(alignment.IGNORED)),
        "inputs_pretokenized": found["text"],
        "targets_pretokenized": " ".join(found["tags"]),
    }


def _classify(spell: encoder.Encoder, language: str, seed: int, split: str, index: int) -> Example:
    found = cldr_examples.classify(language, index, split=split, seed=seed)
    return {
        "inputs": np.append(spell.encode([found["text"]])[0], np.int32(spell.specials.eos)),
        "targets": np.array([cldr_examples.KINDS.index(found["kind"])], np.int32),
        "inputs_pretokenized": found["text"],
        "targets_pretokenized": found["kind"],
    }


def _translate(source: str, target: str, seed: int, split: str, index: int) -> Example:
    found = cldr_examples.translate(source, target, index, split=split, seed=seed)
    return {"inputs": f"{target}: {found['source']}", "targets": found["target"]}
