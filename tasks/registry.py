"""Corpora and objectives as SeqIO tasks and mixtures, in SeqIO's own registry. Imports TensorFlow.

Names: 'baton:<corpus>:<part>:<objective>' for tasks, 'baton:<corpus>:<objective>' for mixtures of the parts. SeqIO
takes letters, digits and '_.:#', so any other character becomes '_'. Lengths are given where a dataset is asked for:
sequence_length={'inputs': 512, 'targets': 114}.
"""

import difflib
import functools
import re
from collections.abc import Callable, Mapping
from typing import Any

import seqio

from tasks import blend as blends
from tasks import (
    corpora,
    objective,
    objectives,
    preprocessors,
    seqio_source,
    seqio_vocabulary,
    sources,
    specials,
    store,
    vocabulary,
)
from tasks import encoder as encoders

PREFIX = "baton"
CLDR = "cldr"
STANDARD: Mapping[str, objective.Objective] = {
    "mlm": objectives.MaskedLM(),
    "span_corruption": objectives.SpanCorruption(),
    "denoise": objectives.Denoise(),
    "prefix_lm": objectives.PrefixLM(),
    "causal_lm": objectives.CausalLM(),
}


def register(
    corpus: str,
    parts: Mapping[str, sources.Source],
    spelling: encoders.Encoder | str,
    objectives: Mapping[str, objective.Objective],
    *,
    rates: Mapping[str, float] | None = None,
    alpha: float = 1.0,
    validation: float = 0.0,
    separate: bool = True,
) -> tuple[str, ...]:
    """Registers a task for each part and objective, and a mixture of the parts for each objective.

    Names that are registered already are defined anew.

    Args:
        corpus: its name.
        parts: name to text.
        spelling: the vocabulary, or the path that `vocabulary.encoder` opens.
        objectives: name to objective.
        rates: of the parts in the mixtures, in any unit; None samples by characters ** alpha, counted at first use.
        alpha: 1 mixes by size, 0 all alike.
        validation: share of the documents held out as split 'validation', the same ones as in a store.
        separate: whether documents are kept apart, as for `Blend`.

    Returns:
        The names, mixtures last.

    Raises:
        ValueError: no parts or objectives, rates of other parts, or an objective that the vocabulary cannot serve.
    """
    opened = spelling if isinstance(spelling, encoders.Encoder) else vocabulary.encoder(spelling)
    wrapped = seqio_vocabulary.wrap(opened)
    by_size = {name: functools.partial(_by_characters, source, alpha) for name, source in parts.items()}
    return _register(
        corpus,
        {name: source.provider(validation=validation) for name, source in parts.items()},
        objectives,
        spell=(preprocessors.spell(wrapped, opened.specials.eos),),
        special=opened.specials,
        wrapped=wrapped,
        rates=by_size if rates is None else rates,
        separate=separate,
    )


def register_blend(name: str, blend: blends.Blend, *, objective_name: str) -> tuple[str, ...]:
    """Registers a blend of stored parts: a task for each part, and their mixture at the blend's rates.

    Args:
        name: of the corpus, in the names.
        blend: the blend; the other splits of its parts are registered too.
        objective_name: of its objective, in the names.

    Returns:
        The names, the mixture last.

    Raises:
        ValueError: what `blend.open` raises.
    """
    parts = blend.open()
    found = {}
    for part in parts:
        found[part.name] = {blend.split: part}
        for split in ("train", "validation"):
            if split != blend.split and part.name in store.parts(blend.store, split=split):
                found[part.name][split] = store.open(blend.store, part.name, split=split)
    return _register(
        name,
        {part: seqio_source.Stored(splits) for part, splits in found.items()},
        {objective_name: blend.objective},
        spell=(),
        special=blend.specials(),
        wrapped=vocabulary.load(blend.store),
        rates=dict(zip(blend.parts(), blend.shares(tuple(part.tokens for part in parts)), strict=True)),
        separate=blend.separate,
    )


def register_cldr(spelling: encoders.Encoder | str = encoders.BYTES, *, documents: int = 2000) -> tuple[str, ...]:
    """Registers the built-in corpus under every standard objective; `get` does so by itself, in bytes.

    Args:
        spelling: the vocabulary.
        documents: of each language.

    Returns:
        The names, mixtures last.

    Raises:
        ValueError: the vocabulary cannot serve an objective.
    """
    return register(CLDR, corpora.parse([f"{CLDR}:{documents}"]), spelling, STANDARD, validation=0.02)


def get(name: str) -> seqio.Task | seqio.Mixture:
    """Returns a task or mixture by name, whoever registered it.

    Raises:
        ValueError: there is none; the message has the nearest names.
    """
    if name.startswith(f"{PREFIX}:{CLDR}:") and name not in names():
        register_cldr()
    known = names()
    if name not in known:
        near = difflib.get_close_matches(name, known, 3, 0.4)
        meant = f"did you mean {' or '.join(near)}?" if near else f"{len(known)} are registered"
        raise ValueError(f"no SeqIO task or mixture is named {name!r}: {meant} (--import MODULE registers a module's)")
    return seqio.get_mixture_or_task(name)


def name_of(*words: str) -> str:
    """Returns 'baton:word:word', in the characters that SeqIO takes."""
    return ":".join((PREFIX, *(re.sub(r"[^\w.#]", "_", word) for word in words)))


def names() -> tuple[str, ...]:
    """Returns every registered task and mixture, sorted."""
    return tuple(sorted({*seqio.TaskRegistry.names(), *seqio.MixtureRegistry.names()}))


def _register(
    corpus: str,
    parts: Mapping[str, Any],
    objectives: Mapping[str, objective.Objective],
    *,
    spell: tuple[Callable[..., Any], ...],
    special: specials.Specials,
    wrapped: seqio.Vocabulary,
    rates: Mapping[str, Any],
    separate: bool,
) -> tuple[str, ...]:
    if not parts or not objectives:
        raise ValueError(f"corpus {corpus!r} needs parts and objectives, it has {list(parts)} and {list(objectives)}")
    if set(rates) != set(parts):
        odd = sorted(set(rates) ^ set(parts))
        raise ValueError(f"corpus {corpus!r} has parts {sorted(parts)} but rates of {sorted(rates)}: {odd} differ")
    made: list[str] = []
    mixtures: list[str] = []
    for label, goal in objectives.items():
        for needed in goal.needs():
            special.need(needed, f"objective {label!r}")
        features = preprocessors.output_features(goal, wrapped)
        made_row = preprocessors.features(goal, special, separate=separate)
        steps: list[Any] = [*spell, preprocessors.windows(goal), made_row]
        tasks = {part: name_of(corpus, part, label) for part in parts}
        for part, name in tasks.items():
            _forget(seqio.TaskRegistry, name)
            seqio.TaskRegistry.add(
                name,
                source=parts[part],
                preprocessors=steps,
                output_features=features,
                task_cls=preprocessors.Rows,
            )
            made.append(name)
        mixtures.append(name_of(corpus, label))
        _forget(seqio.MixtureRegistry, mixtures[-1])
        seqio.MixtureRegistry.add(mixtures[-1], [(tasks[part], rates[part]) for part in parts])
    return (*made, *mixtures)


def _forget(registry: Any, name: str) -> None:
    if name in registry.names():
        registry.remove(name)


@functools.lru_cache(maxsize=256)
def _characters(source: sources.Source) -> int:
    return sum(len(text) for text in source.documents())


def _by_characters(source: sources.Source, alpha: float, task: seqio.Task) -> float:
    return float(_characters(source)) ** alpha
