"""SeqIO tasks and mixtures by name, whoever registered them. Imports TensorFlow."""

import importlib
from typing import Any

import seqio

from tasks import registry, specials, vocabulary


def open(name: str, modules: tuple[str, ...] = ()) -> seqio.Task | seqio.Mixture:
    """Returns a task or mixture.

    Args:
        name: in SeqIO's registry.
        modules: to import first, because they register it.

    Raises:
        ValueError: no such module, or no such name; the message has the nearest names.
    """
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise ValueError(
                f"cannot import {module!r}, which should register {name!r} ({error}): correct it"
            ) from None
    return registry.get(name)


def rates(provider: seqio.Task | seqio.Mixture) -> tuple[tuple[seqio.Task, float], ...]:
    """Returns the tasks of a mixture, or the task alone, with their rates."""
    if isinstance(provider, seqio.Mixture):
        return tuple((task, float(provider.get_rate(task))) for task in provider.tasks)
    return ((provider, 1.0),)


def feature(provider: seqio.Task | seqio.Mixture) -> Any:
    """Returns the vocabulary of what is read: that of 'inputs', 'encoder_inputs' or, for a decoder, 'targets'."""
    features = provider.output_features
    name = next(name for name in ("inputs", "encoder_inputs", "targets") if name in features)
    return features[name].vocabulary


def special(provider: seqio.Task | seqio.Mixture) -> specials.Specials:
    """Returns the special ids of what is read; of a foreign class of vocabulary, those that SeqIO itself assumes."""
    found = feature(provider)
    try:
        return vocabulary.specials(found)
    except ValueError:
        # SeqIO's converters pad with 0 and start decoders with 0; the other ids are not needed to feed.
        eos = found.eos_id
        return specials.Specials(size=found.vocab_size, eos=found.vocab_size - 1 if eos is None else eos, unk=None)


def fingerprint(provider: seqio.Task | seqio.Mixture) -> str | None:
    """Returns the fingerprint of what is read, None for a foreign class of vocabulary."""
    try:
        return vocabulary.fingerprint(feature(provider))
    except ValueError:
        return None


def split(provider: seqio.Task | seqio.Mixture, name: str) -> None:
    """Raises a ValueError unless every task has the split `name`."""
    for task, _ in rates(provider):
        if name not in task.splits:
            have = ", ".join(task.splits)
            raise ValueError(f"SeqIO task {task.name!r} has no split {name!r}: choose from {have}")
