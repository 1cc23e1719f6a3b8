"""A language of the Unicode CLDR made ready to say facts fast: what Babel's formatters give, with the spans known.

Babel parses its patterns at every call; cldr_dates and cldr_numbers take them apart once.
"""

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import babel

from tasks import cldr_dates, cldr_facts, cldr_numbers, cldr_places

LABELS = (
    "weekday", "day", "month", "year", "quarter", "time", "zone", "relative", "number", "percent", "currency", "unit",
    "place", "language",
)  # fmt: skip
"""What a span can be."""

# The CLDR doesn't tell how sentences are punctuated: a layout's marks, in the languages that write them otherwise.
_MARKS = {
    "fr": ((": ", "\u00a0: "), ("; ", "\u202f; ")),
    "ja": ((": ", "："), ("; ", "；"), (", ", "、"), (" (", "（"), (")", "）")),
    "ar": (("; ", "؛ "), (", ", "، ")),
}
_STOPS = {"ja": "。", "hi": "।"}
_PART = re.compile(r"\{(\w+)(?::(\w+))?\}")

Piece = cldr_numbers.Piece
Writer = cldr_numbers.Writer


class Language:
    """One language; `language` keeps them.

    Attributes:
        stop: what ends a sentence.
        gap: what stands between two sentences.
    """

    def __init__(self, code: str):
        """Takes the language's data apart, in some hundredths of a second."""
        self._code, self._locale = code, babel.Locale.parse(code)
        self._numbers = cldr_numbers.Numbers(code)
        self._dates = cldr_dates.Dates(code, self._numbers)
        self._layouts = {kind: tuple(map(self._layout, texts)) for kind, texts in cldr_facts.LAYOUTS.items()}
        self.stop, self.gap = _STOPS.get(code, "."), "" if code == "ja" else " "

    def say(self, fact: cldr_facts.Fact) -> list[Piece]:
        """Returns the pieces of a fact, without a stop."""
        layouts = self._layouts[fact.kind]
        pieces: list[Piece] = []
        for name, writer in layouts[fact.layout % len(layouts)]:
            writer(pieces, fact.values.get(name))
        return pieces

    def sentence(self, fact: cldr_facts.Fact) -> str:
        """Returns a fact as a sentence."""
        text = "".join([text for text, _ in self.say(fact)])
        return text if text.endswith(".") else text + self.stop

    def _layout(self, text: str) -> list[tuple[str, Writer]]:
        parts: list[tuple[str, Writer]] = []
        place = 0
        for found in _PART.finditer(text):
            parts += self._mark(text[place : found.start()])
            parts.append((found[1], self._writers[found[1]](found[2] or "")))
            place = found.end()
        return parts + self._mark(text[place:])

    def _mark(self, text: str) -> list[tuple[str, Writer]]:
        for mark, own in _MARKS.get(self._code, ()):
            text = text.replace(mark, own)
        return [("", lambda out, _: out.append((text, "")))] if text else []

    @functools.cached_property
    def _writers(self) -> Mapping[str, Callable[[str], Writer]]:
        """A writer's maker for each name of a value, given the width."""
        numbers, dates, locale, code = self._numbers, self._dates, self._locale, self._code
        names = {
            "place": functools.cache(lambda place: locale.territories[place]),
            "language": functools.cache(lambda language: locale.languages[language]),
            "city": functools.cache(lambda zone: cldr_places.city_name(code, zone)),
            "zone": functools.cache(lambda meta: cldr_places.zone_name(code, meta)),
        }
        return {
            "date": dates.date,
            "when": dates.when,
            "time": dates.time,
            "relative": dates.relative,
            "period": dates.period,
            "quarter": dates.quarter,
            "number": numbers.number,
            "percent": numbers.percent,
            "money": numbers.money,
            "other": numbers.money,
            **dict.fromkeys(("measure", "quantity", "temperature", "days"), numbers.measure),
            "duration": lambda width: self._list(numbers.measure(width)),
            "place": lambda width: _named(names["place"], "place"),
            "city": lambda width: _named(names["city"], "place"),
            "zone": lambda width: _named(names["zone"], "zone"),
            "language": lambda width: _named(names["language"], "language"),
            "places": lambda width: self._list(_named(names["place"], "place")),
            "languages": lambda width: self._list(_named(names["language"], "language")),
        }

    def _list(self, one: Writer) -> Writer:
        """Returns the writer of several values, joined as the language joins a list."""
        joints = {
            name: (pattern.removeprefix("{0}").removesuffix("{1}"), "")
            for name, pattern in self._locale.list_patterns["standard"].items()
        }

        def write(out: list[Piece], values: Sequence[Any]) -> None:
            one(out, values[0])
            last = len(values) - 1
            for index in range(1, last + 1):
                name = "2" if last == 1 else "end" if index == last else "start" if index == 1 else "middle"
                out.append(joints[name])
                one(out, values[index])

        return write


def _named(name: Callable[[str], str], label: str) -> Writer:
    return lambda out, value: out.append((name(value), label))


@functools.cache
def language(code: str) -> Language:
    """Returns a language, made ready once.

    Raises:
        ValueError: not one of the twelve.
    """
    if code not in cldr_places.LANGUAGES:
        raise ValueError(
            f"the built-in corpus has no language {code!r}: choose from {', '.join(cldr_places.LANGUAGES)}"
        )
    return Language(code)
