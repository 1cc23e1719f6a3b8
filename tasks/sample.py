"""A bounded, temperature-sampled choice of sentences from several corpora, for training a vocabulary."""

import dataclasses
import re
from collections.abc import Iterator, Mapping

import numpy as np

from tasks import sources

# Sentences of this many characters at most: the trainer's work per sentence grows faster than its length.
LONGEST = 512
# Ends of sentences in the scripts at hand; the Indic, Arabic and CJK marks included.
_SENTENCE = re.compile(r"[^.!?।॥؟۔。！？\n]*(?:[.!?।॥؟۔。！？\n]+\s*|$)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
    """Sentences in proportion to each corpus's characters**alpha.

    A corpus that is asked for more than it has gives every sentence as often as needed. Two passes over the text, in
    bounded memory; the same arguments give the same sentences in the same order.

    Attributes:
        corpora: name to text.
        sentences: how many in all; fewer only where the corpora have fewer in all.
        alpha: 1 samples as the corpora are, 0 samples all alike.
        seed: of the choice.
    """

    corpora: Mapping[str, sources.Source]
    sentences: int
    alpha: float
    seed: int = 0

    def __post_init__(self):
        """Refuses samples of nothing."""
        if not self.corpora:
            raise ValueError("a vocabulary needs text to be trained on: name at least one corpus")
        if self.sentences < 1:
            raise ValueError(f"a sample of {self.sentences} sentences is none: ask for at least one")
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha {self.alpha} lies outside 0 (all corpora alike) to 1 (as they are)")

    def count(self) -> dict[str, tuple[int, int]]:
        """Returns the number of sentences and of characters of each corpus.

        Raises:
            ValueError: a corpus is empty or cannot be read.
        """
        found = {}
        for name, source in self.corpora.items():
            number = characters = 0
            for text in source.documents():
                for sentence in split(text):
                    number += 1
                    characters += len(sentence)
            if not number:
                raise ValueError(f"corpus {name!r} ({source.description}) is empty: leave it out or give it text")
            found[name] = number, characters
        return found

    def quotas(self, counts: Mapping[str, tuple[int, int]]) -> dict[str, int]:
        """Returns how many sentences each corpus gives, at least one.

        Args:
            counts: what `count` returned.
        """
        weights = np.array([characters for _, characters in counts.values()], np.float64) ** self.alpha
        total = min(self.sentences, sum(number for number, _ in counts.values()))
        shares = np.maximum(1, np.round(total * weights / weights.sum())).astype(int)
        return dict(zip(counts, shares.tolist(), strict=True))

    def draw(self, counts: Mapping[str, tuple[int, int]]) -> Iterator[str]:
        """Yields the sentences, corpus by corpus.

        Args:
            counts: what `count` returned.
        """
        for order, (name, quota) in enumerate(self.quotas(counts).items()):
            number = counts[name][0]
            often, once = divmod(quota, number)
            # Selection sampling (Knuth, The Art of Computer Programming, vol. 2, 3.4.2, algorithm S): exactly `once` of
            # `number`, each subset equally likely, without holding any.
            rng = np.random.default_rng([self.seed, order])
            for text in self.corpora[name].documents():
                for sentence in split(text):
                    chosen = rng.random() * number < once
                    number -= 1
                    once -= chosen
                    for _ in range(often + chosen):
                        yield sentence


def split(text: str) -> Iterator[str]:
    """Yields a document in stretches of whole sentences, up to 512 characters; together they hold all its words."""
    held = ""
    for sentence in _SENTENCE.findall(text):
        if held and len(held) + len(sentence) > LONGEST:
            yield held.strip()
            held = ""
        held += sentence
        while len(held) > LONGEST:
            border = held.rfind(" ", LONGEST // 2, LONGEST)
            border = LONGEST if border < 0 else border
            yield held[:border].strip()
            held = held[border:].lstrip()
    if held := held.strip():
        yield held
