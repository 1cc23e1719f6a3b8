"""What the built-in corpus says, without a language: facts drawn by chance about dates, places, money and measures.

A fact is a kind and its values, numbers and codes alone; any language can say it (tasks/cldr_text.py), so one fact said
twice is a translation.

Splits are disjoint by construction: whatever a task asks for (a date, an amount, a measure, a list) belongs to one
split, by a hash of its values that knows no seed, and is drawn for that split alone, in documents as in examples.
"""

import dataclasses
import datetime
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

from tasks import cldr_places

SPLITS = ("train", "validation", "test")

Draw = Callable[[], float]
"""`random.Random(...).random`: every choice is made from it alone, since its sequence is promised by Python."""

LAYOUTS: Mapping[str, tuple[str, ...]] = {
    "date": ("{date:full}", "{date:long}", "{date:medium}"),
    "appointment": ("{city}: {when:full}", "{when:long} ({zone})", "{city}, {time:full}, {date:long}"),
    "relative": ("{relative} ({date:long})", "{date:full} – {relative}"),
    "period": ("{period}", "{period} ({days:long})", "{days:long}: {period}"),
    "price": ("{place}: {money}", "{money:name} ({place})", "{quantity:long}: {money}", "{quantity:short} = {money}"),
    "exchange": ("{money} = {other}", "{money:name} = {other:name}"),
    "measure": ("{place}: {measure:long}", "{measure:short} ({place})", "{measure:long}"),
    "weather": ("{city}, {date:full}: {temperature:short}", "{city} ({date:medium}): {temperature:long}"),
    "places": ("{places}",),
    "languages": ("{languages}", "{place}: {languages}"),
    "share": ("{language} ({place}): {percent}", "{place}, {language}: {percent}"),
    "population": ("{place}: {number}", "{place}: {number:compact}", "{number:compact} ({place})"),
    "duration": ("{date:long}: {duration:long}", "{duration:long} ({date:medium})"),
    "quarter": ("{quarter}: {money} ({percent})", "{place}, {quarter}: {percent}; {money}"),
}
"""Kind of sentence to its layouts: parts with a width, and punctuation that each language has in its own form."""

KINDS = tuple(LAYOUTS)

# Unit, largest whole number, decimals at most.
_MEASURES = (
    ("length-kilometer", 9000, 1), ("length-meter", 5000, 1), ("length-centimeter", 300, 1), ("length-mile", 5000, 1),
    ("length-foot", 3000, 0), ("length-inch", 200, 1), ("mass-kilogram", 5000, 2), ("mass-gram", 999, 1),
    ("mass-tonne", 9000, 1), ("mass-pound", 2000, 1), ("volume-liter", 3000, 2), ("volume-milliliter", 999, 0),
    ("volume-cubic-meter", 9000, 1), ("area-square-kilometer", 900_000, 1), ("area-square-meter", 20_000, 1),
    ("area-hectare", 9000, 1), ("speed-kilometer-per-hour", 400, 1), ("speed-meter-per-second", 99, 1),
    ("energy-kilowatt-hour", 9000, 1), ("power-watt", 3000, 0), ("power-kilowatt", 900, 1), ("electric-volt", 400, 1),
    ("frequency-megahertz", 6000, 1), ("digital-gigabyte", 2000, 1), ("digital-megabyte", 999, 1),
    ("energy-kilocalorie", 3000, 0), ("pressure-hectopascal", 1100, 0),
)  # fmt: skip
_QUANTITIES = (("mass-kilogram", 50, 1), ("mass-gram", 900, 0), ("volume-liter", 90, 1))
_DURATIONS = (("duration-day", 30), ("duration-hour", 23), ("duration-minute", 59), ("duration-second", 59))
UNITS = (*(unit for unit, _, _ in _MEASURES), *(unit for unit, _ in _DURATIONS), "temperature-celsius")

# Unit, its days, from how many days on the next one is taken.
_SPANS = (("day", 1, 14), ("week", 7, 60), ("month", 30.5, 700), ("year", 365.25, math.inf))

FIRST, LAST = datetime.date(1950, 1, 1).toordinal(), datetime.date(2049, 12, 31).toordinal()
_MASK = 2**64 - 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fact:
    """Something to say.

    Attributes:
        kind: one of KINDS.
        layout: index of its layout, taken modulo their number.
        values: the values of its parts, by the names that the layouts use.
    """

    kind: str
    layout: int
    values: Mapping[str, Any]


def split_of(*values: int | str) -> str:
    """Returns the split that owns these values: of each twenty, one is validation's and one test's."""
    mixed = 0x9E3779B97F4A7C15
    for value in values:
        number = value if isinstance(value, int) else int.from_bytes(value.encode(), "big")
        mixed = (mixed ^ (number + 0x632BE59BD9B4E019)) * 0xBF58476D1CE4E5B9 & _MASK
        mixed ^= mixed >> 29
    return {0: "validation", 1: "test"}.get(mixed % 20, "train")


@functools.cache
def _date_split(date: int) -> str:
    return split_of("date", date)


class Scene:
    """Draws facts that belong together: their dates lie about one day, and half of their places are one place."""

    def __init__(self, draw: Draw, split: str):
        """Picks the day and the place.

        Args:
            draw: the source of chance.
            split: the split that owns what is drawn.
        """
        self._draw, self._split = draw, split
        self._places = cldr_places.places()
        self._major = cldr_places.major()
        self._today = FIRST + int(draw() * (LAST - FIRST + 1))
        self._home = self._place(0.0)

    def fact(self, kinds: tuple[str, ...] = KINDS) -> Fact:
        """Returns a fact of one of the kinds."""
        kind = kinds[int(self._draw() * len(kinds))]
        values = _KINDS[kind](self)
        return Fact(kind=kind, layout=int(self._draw() * 60), values=values)

    def _below(self, count: int) -> int:
        return int(self._draw() * count)

    def _pick(self, options: Any) -> Any:
        return options[int(self._draw() * len(options))]

    def _own(self, make: Callable[[], tuple[Any, ...]]) -> tuple[Any, ...]:
        """Draws values until they belong to the split; `make` returns them flat."""
        while True:
            values = make()
            if split_of(*values) == self._split:
                return values

    def _place(self, home: float = 0.5) -> cldr_places.Place:
        """Returns the scene's own place, `home` of the time, else a major one as often as any."""
        chance = self._draw()
        if chance < home:
            return self._home
        return self._pick(self._major if chance < 0.5 * (1 + home) else self._places)

    def _date(self, reach: int = 60) -> int:
        while True:
            date = FIRST + (self._today - FIRST + self._below(2 * reach + 1) - reach) % (LAST - FIRST + 1)
            if _date_split(date) == self._split:
                return date
            reach += 1  # a narrow window may hold no day of a small split

    def _number(self, most: int, decimals: int) -> tuple[int, int]:
        """Returns (scaled, decimals) for scaled / 10**decimals, small numbers as often as large, no trailing zeros."""
        decimals = self._below(decimals + 1)
        scaled = int((most * 10**decimals) ** self._draw())
        while decimals and scaled % 10 == 0:
            scaled, decimals = scaled // 10, decimals - 1
        return max(scaled, 1), decimals

    def _measure(self, options: tuple[tuple[str, int, int], ...]) -> tuple[str, int, int]:
        def make() -> tuple[Any, ...]:
            unit, most, decimals = self._pick(options)
            return (unit, *self._number(most, decimals))

        return self._own(make)  # pyright: ignore[reportReturnType]

    def _money(self, place: cldr_places.Place) -> tuple[str, int, int]:
        """Returns (currency, scaled, decimals) in the place's money: two times in three a round amount."""

        def make() -> tuple[Any, ...]:
            scaled = 1 + int(10 ** (1 + 4 * self._draw()))
            return place.currency, scaled * (10**place.digits if self._draw() < 0.67 else 1), place.digits

        return self._own(make)  # pyright: ignore[reportReturnType]

    def date(self) -> dict[str, Any]:
        """A day."""
        return {"date": self._date()}

    def appointment(self) -> dict[str, Any]:
        """A day, a time to five minutes, a city with its time zone."""
        place = self._place()
        city = self._pick(place.cities)
        date, time = self._date(), 300 * self._below(288)
        return {"city": city[0], "zone": city[1], "date": date, "time": (time, city[1]), "when": (date, time)}

    def relative(self) -> dict[str, Any]:
        """A day and its distance from today, in the unit that people would take."""
        date = self._date(self._pick((10, 40, 500, 5000)))
        distance = date - self._today
        if not distance:
            return self.relative()
        unit, days, _ = next(row for row in _SPANS if abs(distance) < row[2])
        count = max(1, round(abs(distance) / days))
        return {"date": date, "relative": (unit, -count if distance < 0 else count)}

    def period(self) -> dict[str, Any]:
        """Two days and the number of days from one to the other."""
        first, second = self._date(), self._date()
        first, second = (first, second) if first < second else (second, first + (first == second))
        if _date_split(second) != self._split:
            return self.period()
        return {"period": (first, second), "days": ("duration-day", second - first, 0)}

    def price(self) -> dict[str, Any]:
        """An amount of money, in a place or for a quantity."""
        place = self._place()
        return {"place": place.code, "money": self._money(place), "quantity": self._measure(_QUANTITIES)}

    def exchange(self) -> dict[str, Any]:
        """Two amounts of money."""
        place, other = self._place(), self._place(0.0)
        if place.currency == other.currency:
            return self.exchange()
        return {"money": self._money(place), "other": self._money(other)}

    def measure(self) -> dict[str, Any]:
        """A measure of a place."""
        return {"place": self._place().code, "measure": self._measure(_MEASURES)}

    def weather(self) -> dict[str, Any]:
        """Degrees in a city on a day."""
        city = self._pick(self._place().cities)
        return {"city": city[0], "date": self._date(), "temperature": ("temperature-celsius", self._below(61) - 20, 0)}

    def places(self) -> dict[str, Any]:
        """Two to five places."""
        return {"places": self._own(lambda: self._several(cldr_places.codes(), 2 + self._below(4)))}

    def languages(self) -> dict[str, Any]:
        """A place and some languages, its own among them."""
        place = self._place()
        spoken = cldr_places.languages()

        def make() -> tuple[Any, ...]:
            others = self._several(spoken, 2 + self._below(3))
            first = self._pick(place.languages)
            return others if first in others else (first, *others)

        return {"place": place.code, "languages": self._own(make)}

    def share(self) -> dict[str, Any]:
        """A language, a place and a percentage, to tenths."""
        place = self._place()

        def make() -> tuple[Any, ...]:
            language = self._pick(place.languages if self._draw() < 0.5 else cldr_places.languages())
            return language, place.code, 1 + self._below(999)

        language, _, tenths = self._own(make)
        return {"language": language, "place": place.code, "percent": _tenths(tenths)}

    def population(self) -> dict[str, Any]:
        """A place and a number of up to three digits and seven zeros or so, as (digits, zeros)."""
        place = self._place()

        def make() -> tuple[Any, ...]:
            digits, zeros = 10 + self._below(990), 2 + self._below(6)
            # One number must not have two forms, or it could belong to two splits.
            while digits % 10 == 0:
                digits, zeros = digits // 10, zeros + 1
            return digits, zeros, place.code

        return {"place": place.code, "number": self._own(make)[:2]}

    def duration(self) -> dict[str, Any]:
        """Two neighbouring units of time, on a day."""
        first = self._below(len(_DURATIONS) - 1)
        parts = tuple((unit, 1 + self._below(most), 0) for unit, most in _DURATIONS[first : first + 2])
        return {"date": self._date(), "duration": parts}

    def quarter(self) -> dict[str, Any]:
        """A quarter of a year, an amount and a percentage."""
        quarter = 1 + self._below(4), datetime.date.fromordinal(self._today).year + self._below(3) - 1
        place, change = self._place(), 1 + self._below(999)
        return {"quarter": quarter, "place": place.code, "money": self._money(place), "percent": _tenths(change)}

    def _several(self, options: Any, count: int) -> tuple[Any, ...]:
        found: list[Any] = []
        while len(found) < count:
            option = self._pick(options)
            if option not in found:
                found.append(option)
        return tuple(found)


def _tenths(scaled: int) -> tuple[int, int]:
    return (scaled, 1) if scaled % 10 else (scaled // 10, 0)


_KINDS: Mapping[str, Callable[[Scene], dict[str, Any]]] = {kind: getattr(Scene, kind) for kind in KINDS}
