"""The built-in corpus: endless real formatted text in twelve languages, composed from the Unicode CLDR (by Babel).

Every document is a pure function of (seed, language, split, index): full and relative dates, times with zones, amounts
of money, measures, lists of countries and languages, three to ten of them about one day and one place. The parts are
known, so labelled tasks come with it (tasks/cldr_examples.py).
"""

import dataclasses
import functools
import hashlib
import importlib.metadata
import random
from collections.abc import Iterator

from tasks import cldr_facts, cldr_places, cldr_text

_SENTENCES = (3, 10)
# Documents of each language that the digest reads: a change of Babel's data or of this code shows in them.
_SAMPLE = 40


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cldr:
    """The corpus.

    Attributes:
        languages: the languages it speaks.
        seed: another seed, other documents. The splits stay apart whatever the seeds.
    """

    languages: tuple[str, ...] = cldr_places.LANGUAGES
    seed: int = 0

    def __post_init__(self):
        """Refuses languages that there are not, none, or one twice."""
        for language in self.languages:
            _check(language, cldr_places.LANGUAGES)
        if not self.languages or len(set(self.languages)) < len(self.languages):
            raise ValueError(
                f"the built-in corpus was asked for languages {self.languages}; name each once, at least one"
            )

    def document(self, language: str, index: int, split: str = "train") -> str:
        """Returns one document, a line of text.

        Raises:
            ValueError: a language that the corpus doesn't speak, an unknown split, an index below 0.
        """
        return next(self.documents(language, index, 1, split))

    def documents(self, language: str, start: int, count: int, split: str = "train") -> Iterator[str]:
        """Yields documents `start` to `start + count` of a split, 2 to 4 MB/s on a core.

        Args:
            language: one of the corpus's.
            start: index of the first; there is no last.
            count: how many.
            split: 'train', 'validation' or 'test'. No date, amount, measure or list of one is in another.

        Raises:
            ValueError: as for `document`.
        """
        _check(language, self.languages)
        if split not in cldr_facts.SPLITS:
            raise ValueError(f"the built-in corpus has no split {split!r}: choose from {', '.join(cldr_facts.SPLITS)}")
        if start < 0 or count < 0:
            raise ValueError(f"documents {start} to {start + count} of {language!r} were asked for; count from 0")
        return self._compose(language, range(start, start + count), split)

    def digest(self) -> str:
        """Returns a sha256 that changes with the languages, the seed, Babel's data and the way text is composed."""
        return _digest(self)

    def _compose(self, language: str, indices: range, split: str) -> Iterator[str]:
        speaker = cldr_text.language(language)
        fewest, most = _SENTENCES
        for index in indices:
            draw = random.Random(f"{self.seed}/{language}/{split}/{index}").random
            scene = cldr_facts.Scene(draw, split)
            sentences = [speaker.sentence(scene.fact()) for _ in range(fewest + int(draw() * (most - fewest + 1)))]
            yield speaker.gap.join(sentences)


def _check(language: str, languages: tuple[str, ...]) -> None:
    if language not in languages:
        raise ValueError(f"the built-in corpus has no language {language!r}: choose from {', '.join(languages)}")


@functools.cache
def _digest(corpus: Cldr) -> str:
    running = hashlib.sha256(f"{corpus} {importlib.metadata.version('babel')}".encode())
    for language in corpus.languages:
        for text in corpus.documents(language, 0, _SAMPLE):
            running.update(text.encode())
    return running.hexdigest()
