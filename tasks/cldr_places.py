"""The places of the built-in corpus, with their money, languages and cities, as the Unicode CLDR has them (Babel)."""

import dataclasses
import datetime
import functools
from typing import Any

from babel import core, localedata, numbers

LANGUAGES = ("ar", "de", "en", "es", "fr", "hi", "it", "ja", "mr", "pt", "ta", "te")
"""The twelve languages of Soltan et al. 2023, https://arxiv.org/abs/2306.08756."""

MAJOR = (
    "AR", "AT", "AU", "BD", "BE", "BR", "CA", "CD", "CH", "CL", "CN", "CO", "DE", "DZ", "EG", "ES", "ET", "FR", "GB",
    "GR", "ID", "IN", "IQ", "IR", "IT", "JP", "KE", "KR", "MM", "MX", "MZ", "NG", "NL", "NP", "PE", "PH", "PK", "PL",
    "PT", "RU", "SA", "SE", "TH", "TN", "TZ", "UA", "US", "VN", "ZA",
)  # fmt: skip
"""Countries that are spoken of more often than the others."""

# These write no Latin letters: a city's name must be in their data. The others may fall back on the time zone's id.
_OTHER_SCRIPTS = ("ar", "hi", "ja", "mr", "ta", "te")
# Currencies change hands; the corpus speaks of this day.
_TODAY = datetime.date(2024, 1, 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
    """A country or territory.

    Attributes:
        code: ISO 3166.
        currency: ISO 4217, its legal tender.
        digits: decimals of the currency.
        languages: its official languages, regional ones too, at least one.
        cities: (time zone, meta zone) of each of its cities.
    """

    code: str
    currency: str
    digits: int
    languages: tuple[str, ...]
    cities: tuple[tuple[str, str], ...]


@functools.cache
def data(language: str) -> Any:
    """Returns the CLDR's data of a language, nested mappings."""
    return localedata.LocaleDataDict(localedata.load(language))  # pyright: ignore[reportArgumentType]


@functools.cache
def places() -> tuple[Place, ...]:
    """Returns every place that all twelve languages can name, sorted by code."""
    named = set.intersection(*(set(data(language)["territories"]) for language in LANGUAGES))
    cities = _cities()
    found: list[Place] = []
    for code, spoken in sorted(core.get_global("territory_languages").items()):
        official = tuple(sorted(name for name in _sayable() if spoken.get(name, {}).get("official_status")))
        money = numbers.get_territory_currencies(code, start_date=_TODAY)
        if code in named and code in cities and money and official:
            digits = numbers.get_currency_precision(money[0])
            found.append(Place(code=code, currency=money[0], digits=digits, languages=official, cities=cities[code]))
    return tuple(found)


@functools.cache
def codes() -> tuple[str, ...]:
    """Returns the code of every place."""
    return tuple(place.code for place in places())


@functools.cache
def major() -> tuple[Place, ...]:
    """Returns the places of MAJOR."""
    return tuple(place for place in places() if place.code in MAJOR)


@functools.cache
def languages() -> tuple[str, ...]:
    """Returns every language that is official in one of the places, sorted."""
    return tuple(sorted({name for place in places() for name in place.languages}))


def zone_name(language: str, meta: str) -> str:
    """Returns the name of a meta zone: the generic one ('Central European Time') where all languages have it."""
    return data(language)["meta_zones"][meta]["long"][_zone_style(meta) or "standard"]


def city_name(language: str, zone: str) -> str:
    """Returns the name of the city that a time zone is called after."""
    city = data(language)["time_zones"].get(zone, {}).get("city")
    return city or core.get_global("zone_aliases").get(zone, zone).rsplit("/", 1)[-1].replace("_", " ")


@functools.cache
def _sayable() -> frozenset[str]:
    return frozenset.intersection(*(frozenset(data(language)["languages"]) for language in LANGUAGES))


@functools.cache
def _cities() -> dict[str, tuple[tuple[str, str], ...]]:
    """Returns the cities of each territory, those whose name and zone all languages have."""
    territories, aliases = core.get_global("zone_territories"), core.get_global("zone_aliases")
    found: dict[str, list[tuple[str, str]]] = {}
    for zone, meta in sorted(core.get_global("meta_zones").items()):
        territory = territories.get(aliases.get(zone, zone))
        named = all(data(language)["time_zones"].get(zone, {}).get("city") for language in _OTHER_SCRIPTS)
        if territory and named and "/" in zone and _zone_style(meta):
            found.setdefault(territory, []).append((zone, meta))
    return {territory: tuple(cities) for territory, cities in found.items()}


@functools.cache
def _zone_style(meta: str) -> str | None:
    """Returns how all languages can name a meta zone, None where they can't."""
    for style in ("generic", "standard"):
        if all(data(language)["meta_zones"].get(meta, {}).get("long", {}).get(style) for language in LANGUAGES):
            return style
    return None
