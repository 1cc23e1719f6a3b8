"""Dates and times of one language, from the Unicode CLDR's patterns taken apart once.

A day is its proleptic Gregorian ordinal, a time of day its seconds.
"""

import datetime
import functools
from collections.abc import Callable, Sequence
from typing import Any

import babel
from babel import dates

from tasks import cldr_facts, cldr_numbers, cldr_places

Piece = cldr_numbers.Piece
Writer = cldr_numbers.Writer

_YEARS = range(
    datetime.date.fromordinal(cldr_facts.FIRST).year - 2, datetime.date.fromordinal(cldr_facts.LAST).year + 3
)
_WIDTHS = {1: "abbreviated", 2: "abbreviated", 3: "abbreviated", 4: "wide"}
# Index of each field of a day in the keys that `Dates._days` makes.
_YEAR, _MONTH, _DAY, _WEEKDAY, _QUARTER = range(5)


class Dates:
    """How one language writes days, times and what lies between."""

    def __init__(self, code: str, numbers: cldr_numbers.Numbers):
        """Takes the language's data apart; `numbers` is the same language's."""
        self._locale, self._data, self._numbers = babel.Locale.parse(code), cldr_places.data(code), numbers
        self._clocks = {
            width: functools.lru_cache(maxsize=None)(self._clock(self._locale.time_formats[width].pattern))
            for width in ("short", "full")
        }

    def date(self, width: str) -> Writer:
        """Returns the writer of a day; full, long, medium or short."""
        return self._days(self._locale.date_formats[width].pattern)

    def when(self, width: str) -> Writer:
        """Returns the writer of (day, seconds): a date of this width with a short time."""
        date, clock = self.date(width), self._clocks["short"]
        # All twelve languages put the date, {1}, before the time, {0}.
        between = self._locale.datetime_formats[width].replace("'", "").removeprefix("{1}").removesuffix("{0}")

        def write(out: list[Piece], value: tuple[int, int]) -> None:
            date(out, value[0])
            out.append((between, ""))
            out += clock(value[1])

        return write

    def time(self, width: str) -> Writer:
        """Returns the writer of (seconds, meta zone): the time and, if it is full, its zone."""
        clock = self._clocks[width]
        code = str(self._locale)

        def write(out: list[Piece], value: tuple[int, str]) -> None:
            for text, label in clock(value[0]):
                out.append((cldr_places.zone_name(code, value[1]), label) if label == "zone" else (text, label))

        return write

    def relative(self, width: str) -> Writer:
        """Returns the writer of (unit, count): 'in 3 days' for 3, '3 days ago' for -3."""
        del width
        fields, numbers = self._data["date_fields"], self._numbers

        @functools.cache
        def patterns(unit: str, side: str) -> dict[str, str]:
            return dict(fields[unit][side])

        def write(out: list[Piece], value: tuple[str, int]) -> None:
            unit, count = value
            found = patterns(unit, "past" if count < 0 else "future")
            pattern = found.get(numbers.category(count, 0)) or found["other"]
            out.append((pattern.replace("{0}", numbers.text(abs(count))), "relative"))

        return write

    def period(self, width: str) -> Writer:
        """Returns the writer of (day, later day), what they share written once."""
        del width
        formats = self._locale.interval_formats["yMMMd"]
        halves = {field: [self._days(pattern) for pattern in formats[field]] for field in ("y", "M", "d")}

        def write(out: list[Piece], value: tuple[int, int]) -> None:
            first, second = map(datetime.date.fromordinal, value)
            field = "y" if first.year != second.year else "M" if first.month != second.month else "d"
            for half, day in zip(halves[field], value):
                half(out, day)

        return write

    def quarter(self, width: str) -> Writer:
        """Returns the writer of (quarter, year)."""
        del width
        write = self._days(self._locale.datetime_skeletons["yQQQQ"].pattern)
        return lambda out, value: write(out, datetime.date(value[1], 3 * value[0], 1).toordinal())

    def _days(self, pattern: str) -> Writer:
        """Returns the writer of a day in a pattern of the CLDR."""
        items = [self._item(kind, value) for kind, value in dates.tokenize_pattern(pattern)]

        def write(out: list[Piece], day: int) -> None:
            date = datetime.date.fromordinal(day)
            keys = date.year, date.month, date.day, date.weekday(), (date.month + 2) // 3
            for key, table in items:
                out.append(table if key is None else table[keys[key]])

        return write

    def _item(self, kind: str, value: Any) -> tuple[int | None, Any]:
        """Returns (None, piece) for text, (which field of the day, its pieces) for a field."""
        if kind == "chars":
            return None, (value, "")
        letter, width = value
        native, locale = self._numbers.native, self._locale
        form = "stand-alone" if letter in "Lcq" else "format"
        match letter:
            case "y":
                texts = {year: f"{year % 100:02d}" if width == 2 else str(year) for year in _YEARS}
                return _YEAR, {year: (native(text), "year") for year, text in texts.items()}
            case "d":
                return _DAY, {day: (native(f"{day:0{width}d}"), "day") for day in range(1, 32)}
            case "M" | "L":
                numbers = {month: native(f"{month:0{width}d}") for month in range(1, 13)}
                names = numbers if width < 3 else locale.months[form][_WIDTHS[width]]
                return _MONTH, {month: (names[month], "month") for month in range(1, 13)}
            case "E" | "c":
                return _WEEKDAY, {d: (locale.days[form][_WIDTHS[width]][d], "weekday") for d in range(7)}
            case "Q" | "q":
                return _QUARTER, {q: (locale.quarters[form][_WIDTHS[width]][q], "quarter") for q in range(1, 5)}
        raise ValueError(
            f"{locale} has a date pattern with the field {letter * width!r}, which Dates._item can't write"
        )

    def _clock(self, pattern: str) -> Callable[[int], Sequence[Piece]]:
        """Returns the function from seconds to pieces in a pattern of the CLDR; a zone's piece is left empty."""
        tokens: list[tuple[str, Any]] = list(dates.tokenize_pattern(pattern))

        def clock(seconds: int) -> Sequence[Piece]:
            out: list[Piece] = []
            text = ""
            for kind, value in tokens:
                if kind == "field" and value[0] in "zv":
                    out += [*cldr_numbers.pieces(text, "time"), ("", "zone")]
                    text = ""
                else:
                    text += str(value) if kind == "chars" else self._hand(value[0], value[1], seconds)
            # What follows a zone is a closing bracket.
            return (*out, *([(text, "")] if out and text else cldr_numbers.pieces(text, "time")))

        return clock

    def _hand(self, letter: str, width: int, seconds: int) -> str:
        hour = seconds // 3600
        if letter == "a":
            return self._locale.day_periods["format"]["abbreviated"]["am" if hour < 12 else "pm"]
        number = {"H": hour, "h": hour % 12 or 12, "K": hour % 12, "m": seconds // 60 % 60, "s": seconds % 60}[letter]
        return self._numbers.native(f"{number:0{width}d}")
