"""Numbers, money and measures of one language, from the Unicode CLDR's patterns taken apart once."""

import decimal
import functools
import re
from collections.abc import Callable, Mapping
from typing import Any

import babel

from tasks import cldr_facts, cldr_places

Piece = tuple[str, str]
"""Text and its label; '' for what stands between."""

Writer = Callable[[list[Piece], Any], None]
"""Appends the pieces of a value."""

_NUMBER = re.compile(r"[#0][#0.,]*")
_UNGROUPED = (1000, 1000)
_DIGITS = {"latn": None, "deva": {ord("0") + digit: 0x966 + digit for digit in range(10)}}


def pieces(text: str, label: str) -> list[Piece]:
    """Returns `text` as one labelled piece, with the spaces around it as pieces of their own."""
    inner = text.strip()
    if not inner:
        return [(text, "")] if text else []
    before, after = text[: text.index(inner)], text[text.index(inner) + len(inner) :]
    return [piece for piece in ((before, ""), (inner, label), (after, "")) if piece[0]]


class Numbers:
    """How one language writes numbers. Numbers come as (scaled, decimals) and mean scaled / 10**decimals."""

    def __init__(self, code: str):
        """Takes the language's data apart."""
        self._locale, self._data = babel.Locale.parse(code), cldr_places.data(code)
        system = self._locale.default_numbering_system
        symbols = self._locale.number_symbols[system]
        # Marathi's own digits take their symbols from the Latin ones.
        self._symbols = dict(symbols if "decimal" in symbols else self._locale.number_symbols["latn"])
        self._digits = _DIGITS[system]
        self._grouping: tuple[int, int] = self._locale.decimal_formats[None].grouping
        self.category = functools.lru_cache(maxsize=1 << 16)(self._category)

    def native(self, text: str) -> str:
        """Returns the text with the language's own digits."""
        return text.translate(self._digits) if self._digits else text

    def text(self, scaled: int, decimals: int = 0, grouping: tuple[int, int] | None = None) -> str:
        """Returns a number in the language's digits and groups, every decimal written.

        Args:
            scaled: the number times 10**decimals.
            decimals: how many are written.
            grouping: sizes of the last group of digits and of the others; None takes that of plain numbers.
        """
        whole, rest = divmod(abs(scaled), 10**decimals)
        digits = str(whole) if whole < 1000 else self._grouped(whole, *(grouping or self._grouping))
        if decimals:
            digits += f"{self._symbols['decimal']}{rest:0{decimals}d}"
        return self.native(f"-{digits}" if scaled < 0 else digits)

    def _grouped(self, whole: int, last: int, others: int) -> str:
        digits = str(whole)
        groups = [digits[-last:]]
        digits = digits[:-last]
        while digits:
            groups.append(digits[-others:])
            digits = digits[:-others]
        return self._symbols["group"].join(reversed(groups))

    def _category(self, scaled: int, decimals: int) -> str:
        return self._locale.plural_form(decimal.Decimal(abs(scaled)).scaleb(-decimals))

    def number(self, width: str) -> Writer:
        """Returns the writer of (digits, zeros), which is digits × 10**zeros: in full, or 'compact' ('12 million')."""
        if width == "compact":
            return lambda out, value: out.append((self._compact(*value), "number"))
        return lambda out, value: out.append((self.text(value[0] * 10 ** value[1]), "number"))

    @functools.cached_property
    def _magnitudes(self) -> tuple[tuple[int, Mapping[str, str]], ...]:
        """(power of ten, plural category to pattern), from the largest."""
        formats = self._locale.compact_decimal_formats
        found = formats["long" if "long" in formats else "short"]
        powers = sorted((len(magnitude) - 1 for magnitude in found["other"]), reverse=True)
        patterns = {
            category: {len(key) - 1: found[category][key].pattern for key in found[category]} for category in found
        }
        return tuple((power, {c: rows[power] for c, rows in patterns.items() if power in rows}) for power in powers)

    def _compact(self, digits: int, zeros: int) -> str:
        value = digits * 10**zeros
        power, patterns = next((row for row in self._magnitudes if value >= 10 ** row[0]), (0, {"other": "0"}))
        if patterns["other"] == "0":
            return self.text(value, 0, _UNGROUPED)
        # '00 thousand' stands at 10**4: as many zeros as digits are left.
        shift = power - patterns["other"].count("0") + 1
        decimals = max(0, shift - zeros)
        scaled = digits * 10 ** max(0, zeros - shift)
        while decimals and scaled % 10 == 0:
            scaled, decimals = scaled // 10, decimals - 1
        # Some languages have a pattern of its own, without a digit, for exactly one: French 'mille'.
        category = "1" if (scaled, decimals) == (1, 0) and "1" in patterns else self.category(scaled, decimals)
        pattern = patterns.get(category, patterns["other"]).replace("'", "")
        return re.sub("0+", self.text(scaled, decimals, _UNGROUPED), pattern, count=1)

    def percent(self, width: str) -> Writer:
        """Returns the writer of a percentage."""
        del width
        before, after = _NUMBER.split(self._locale.percent_formats[None].pattern)
        return lambda out, value: out.append((f"{before}{self.text(*value)}{after}", "percent"))

    def measure(self, width: str) -> Writer:
        """Returns the writer of (unit, scaled, decimals); `width` is the CLDR's: long, short."""
        units = {unit: self._around(self._data["unit_patterns"][unit], width) for unit in cldr_facts.UNITS}

        def write(out: list[Piece], value: tuple[str, int, int]) -> None:
            unit, scaled, decimals = value
            before, shown, after = units[unit][self.category(scaled, decimals)]
            out += before
            if shown:
                out.append((self.text(scaled, decimals), "number"))
            out += after

        return write

    def _around(self, widths: Mapping[str, Any], width: str) -> dict[str, tuple[list[Piece], bool, list[Piece]]]:
        """Returns, for each plural category, the pieces before the number, whether it is written, those after."""
        # In the CLDR a unit without a long form inherits the short one; Babel's data leave that out.
        patterns = next(found for found in (widths.get(width, {}), widths["short"]) if "other" in found)
        found = {}
        for category in (*self._locale.plural_form.tags, "other"):
            before, shown, after = patterns.get(category, patterns["other"]).partition("{0}")
            found[category] = pieces(before, "unit"), bool(shown), pieces(after, "unit")
        return found

    def money(self, width: str) -> Writer:
        """Returns the writer of (currency, scaled, decimals), with a symbol, or with the currency's name ('name')."""
        return self._named_money() if width == "name" else self._signed_money()

    def _signed_money(self) -> Writer:
        pattern = self._locale.currency_formats["standard"]
        before, after = (part.partition("¤") for part in _NUMBER.split(pattern.pattern.split(";")[0]))
        symbols = dict(self._locale.currency_symbols)

        def sign(out: list[Piece], around: tuple[str, str, str], currency: str, tight: str) -> None:
            left, place, right = around
            symbol = symbols.get(currency, currency) if place else ""
            # A symbol that ends in a letter keeps its distance from the number (the CLDR's currency spacing).
            right = right or (tight if symbol and symbol[-1].isalpha() else "")
            out += [piece for piece in ((left, ""), (symbol, "currency"), (right, "")) if piece[0]]

        def write(out: list[Piece], value: tuple[str, int, int]) -> None:
            currency, scaled, decimals = value
            sign(out, before, currency, "\u00a0")
            out.append((self.text(scaled, decimals, pattern.grouping), "number"))
            sign(out, after, currency, "")

        return write

    def _named_money(self) -> Writer:
        patterns, plurals = dict(self._data["currency_unit_patterns"]), self._data["currency_names_plural"]

        @functools.cache
        def named(currency: str, category: str) -> str:
            names = plurals.get(currency, {})
            return names.get(category) or names.get("other") or self._locale.currencies.get(currency, currency)

        def write(out: list[Piece], value: tuple[str, int, int]) -> None:
            currency, scaled, decimals = value
            category = self.category(scaled, decimals)
            between = patterns.get(category, patterns["other"]).removeprefix("{0}").removesuffix("{1}")
            out.append((self.text(scaled, decimals), "number"))
            out += [*pieces(between, ""), (named(currency, category), "currency")]

        return write
