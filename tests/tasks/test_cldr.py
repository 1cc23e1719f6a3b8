import collections
import datetime
import itertools
import os
import random
import re
import subprocess
import sys
import unicodedata

import pytest
from babel import Locale, dates, lists, numbers, units

from tasks import cldr, cldr_examples, cldr_facts, cldr_places, cldr_text

CORPUS = cldr.Cldr()


def draws(count, split="train", kinds=cldr_facts.KINDS):
    return [cldr_facts.Scene(random.Random(f"{split}{i}").random, split).fact(kinds) for i in range(count)]


def said(language, kind, layout, /, **values):
    """What a language says of a fact, with Latin digits."""
    fact = cldr_facts.Fact(kind=kind, layout=layout, values=values)
    text = "".join(text for text, _ in cldr_text.language(language).say(fact))
    return "".join(str(unicodedata.digit(char)) if char.isdecimal() else char for char in text)


DAYS = [datetime.date(1950, 1, 1), datetime.date(1987, 12, 31), datetime.date(2024, 3, 4), datetime.date(2049, 9, 26)]


@pytest.mark.parametrize("language", cldr_places.LANGUAGES)
def test_every_part_is_what_babel_writes(language):
    for day in DAYS:
        for layout, width in enumerate(("full", "long", "medium")):
            assert said(language, "date", layout, date=day.toordinal()) == dates.format_date(
                day, width, locale=language
            )
        quarter = said(
            language, "quarter", 0, quarter=((day.month + 2) // 3, day.year), money=("EUR", 1, 2), percent=(1, 1)
        )
        assert quarter.startswith(dates.format_skeleton("yQQQQ", day, locale=language))
        for later in (
            day + datetime.timedelta(days=3),
            day + datetime.timedelta(days=40),
            day + datetime.timedelta(days=400),
        ):
            both = said(language, "period", 0, period=(day.toordinal(), later.toordinal()))
            assert both == dates.format_interval(day, later, "yMMMd", locale=language)
    for hour in (0, 9, 12, 23):
        moment = datetime.datetime(2024, 3, 4, hour, 5)
        values = {
            "date": DAYS[2].toordinal(),
            "time": (hour * 3600 + 300, "Gulf"),
            "city": "Asia/Dubai",
            "zone": "Gulf",
        }
        text = said(language, "appointment", 0, when=(DAYS[2].toordinal(), hour * 3600 + 300), **values)
        date, time = (
            dates.format_date(moment, "full", locale=language),
            dates.format_time(moment, "short", locale=language),
        )
        assert text.endswith(Locale.parse(language).datetime_formats["full"].replace("{1}", date).replace("{0}", time))
        full = dates.format_time(moment, "full", locale=language)
        zone = dates.get_timezone_name(moment.replace(tzinfo=datetime.UTC), locale=language)
        assert full.replace(zone, cldr_places.zone_name(language, "Gulf")) in said(language, "appointment", 2, **values)
    for unit, days in (("day", 1), ("week", 7)):
        for count in (1, 2, 3, 5, -1, -11):
            text = said(language, "relative", 0, relative=(unit, count), date=DAYS[0].toordinal())
            delta = datetime.timedelta(days=days * count)
            wanted = dates.format_timedelta(delta, add_direction=True, granularity=unit, threshold=99, locale=language)
            assert text.startswith(wanted)


@pytest.mark.parametrize("language", cldr_places.LANGUAGES)
def test_every_number_is_what_babel_writes(language):
    def loose(text):
        return re.sub(r"\s", "", text)

    locale = Locale.parse(language)
    for digits, zeros in itertools.product((10, 99, 120, 567), (2, 3, 4, 6)):
        plain = said(language, "population", 0, place="FR", number=(digits, zeros))
        assert plain.endswith(numbers.format_decimal(digits * 10**zeros, locale=language))
        width = "long" if "long" in locale.compact_decimal_formats else "short"
        short = numbers.format_compact_decimal(
            digits * 10**zeros, format_type=width, fraction_digits=2, locale=language
        )
        assert said(language, "population", 1, place="FR", number=(digits, zeros)).endswith(short)
    for currency, scaled, decimals in (
        ("EUR", 100, 2),
        ("USD", 123456789, 2),
        ("JPY", 2, 0),
        ("INR", 1050, 2),
        ("CHF", 5, 2),
    ):
        amount, values = scaled / 10**decimals, {"money": (currency, scaled, decimals), "place": "FR"}
        signed, named = said(language, "price", 0, **values), said(language, "price", 1, **values)
        assert loose(signed).endswith(loose(numbers.format_currency(amount, currency, locale=language)))
        wanted = numbers.format_currency(amount, currency, format_type="name", locale=language)
        assert named.startswith(wanted) or amount == 1  # Babel counts 1.00 as 1, the CLDR by the decimals shown
    for percent in ((3, 0), (125, 1)):
        text = said(language, "share", 0, language="fr", place="FR", percent=percent)
        pattern = locale.percent_formats[None].pattern.replace("0%", "0.#%").replace("0\u00a0%", "0.#\u00a0%")
        assert text.endswith(numbers.format_percent(percent[0] / 10 ** percent[1] / 100, pattern, locale=language))
    patterns = cldr_places.data(language)["unit_patterns"]
    for unit, (layout, width) in itertools.product(cldr_facts.UNITS, ((2, "long"), (1, "short"))):
        for scaled, decimals in ((1, 0), (2, 0), (5, 0), (11, 0), (4567, 0), (15, 1), (-7, 0)):
            # Babel leaves out what a long form inherits from the short one.
            wide = width if "other" in patterns[unit].get(width, {}) else "short"
            category = locale.plural_form(abs(scaled) / 10**decimals if decimals else abs(scaled))
            if category not in patterns[unit][wide]:
                continue  # the CLDR takes 'other', Babel a makeshift
            wanted = units.format_unit(scaled / 10**decimals if decimals else scaled, unit, wide, locale=language)
            assert said(language, "measure", layout, measure=(unit, scaled, decimals), place="FR").startswith(wanted), (
                unit
            )


@pytest.mark.parametrize("language", cldr_places.LANGUAGES)
def test_lists_and_names_are_what_babel_writes(language):
    locale = Locale.parse(language)
    for codes in (("FR", "IN"), ("FR", "IN", "US"), ("FR", "IN", "US", "BR", "DE")):
        wanted = lists.format_list([locale.territories[code] for code in codes], locale=language)
        assert said(language, "places", 0, places=codes) == wanted
    wanted = lists.format_list([locale.languages[code] for code in ("de", "ta")], locale=language)
    assert said(language, "languages", 0, languages=("de", "ta")) == wanted
    city = dates.get_timezone_location(dates.get_timezone("Asia/Tokyo"), locale=language, return_city=True)
    assert cldr_places.city_name(language, "Asia/Tokyo") == city


@pytest.mark.parametrize("split", cldr_facts.SPLITS)
def test_every_kind_in_every_layout_and_language(split):
    facts = {kind: draws(5, split, (kind,)) for kind in cldr_facts.KINDS}
    for language, (kind, found) in itertools.product(cldr_places.LANGUAGES, facts.items()):
        for layout, fact in enumerate(found):
            pieces = cldr_text.language(language).say(cldr_facts.Fact(kind=kind, layout=layout, values=fact.values))
            assert all(text and label in ("", *cldr_text.LABELS) for text, label in pieces), pieces
            assert any(label for _, label in pieces) and "{" not in "".join(text for text, _ in pieces)


def test_documents_are_a_function_of_their_index():
    whole = list(CORPUS.documents("de", 5, 20))
    assert whole == [CORPUS.document("de", index) for index in range(5, 25)]
    assert (
        whole != list(CORPUS.documents("de", 5, 20, "test")) != list(cldr.Cldr(seed=1).documents("de", 5, 20, "test"))
    )
    assert whole == list(cldr.Cldr(languages=("de",)).documents("de", 5, 20))
    assert len(set(CORPUS.documents("en", 0, 300))) == 300
    assert all("\n" not in text and text == text.strip() for text in whole)


def test_documents_do_not_depend_on_the_process():
    code = "from tasks import cldr; c = cldr.Cldr(languages=('ja', 'ar'));"
    code += "print(c.digest(), ascii(c.document('ar', 7, 'test')))"
    runs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "TZ": zone, "LC_ALL": "C", "PYTHONPATH": os.getcwd()},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed, zone in (("1", "Asia/Tokyo"), ("2", "America/New_York"))
    }
    here = cldr.Cldr(languages=("ja", "ar"))
    assert runs == {f"{here.digest()} {ascii(here.document('ar', 7, 'test'))}\n"}


def test_the_digest_tells_corpora_apart():
    corpora = (CORPUS, cldr.Cldr(seed=1), cldr.Cldr(languages=("en",)), cldr.Cldr(languages=("en", "de")))
    assert len({corpus.digest() for corpus in corpora}) == len(corpora)
    assert cldr.Cldr().digest() == CORPUS.digest()


def owned(fact):
    """The values of a fact that belong to one split."""
    for name, value in fact.values.items():
        if name == "date":
            yield "date", value
        elif name in ("when", "period"):
            yield from (("date", day) for day in (value[:1] if name == "when" else value))
        elif name in ("money", "other", "measure", "quantity"):
            yield value
        elif name in ("places", "languages"):
            yield (name, *value)
    if fact.kind == "share":
        yield "share", fact.values["language"], fact.values["place"], fact.values["percent"]
    if fact.kind == "population":
        yield "population", fact.values["place"], fact.values["number"]


def test_splits_share_nothing_that_is_asked_for():
    found = {split: {value for fact in draws(4000, split) for value in owned(fact)} for split in cldr_facts.SPLITS}
    assert all(len(values) > 3000 for values in found.values())
    for one, other in itertools.combinations(cldr_facts.SPLITS, 2):
        assert not found[one] & found[other]
    assert all(any(True for _ in owned(fact)) for fact in draws(500))
    texts = {
        split: {cldr_examples.classify("en", i, split=split)["text"] for i in range(3000)}
        for split in cldr_facts.SPLITS
    }
    assert not texts["train"] & texts["test"] and not texts["validation"] & (texts["test"] | texts["train"])
    days = range(cldr_facts.FIRST, cldr_facts.LAST + 1)
    shares = collections.Counter(cldr_facts.split_of("date", day) for day in days)
    assert shares["train"] / len(days) == pytest.approx(0.9, abs=0.01)
    assert shares["test"] / len(days) == pytest.approx(0.05, abs=0.005)


def test_relative_dates_agree_with_the_day_they_are_told_on():
    scene = cldr_facts.Scene(random.Random("a").random, "train")
    facts = [scene.fact(("relative", "date")) for _ in range(400)]
    near = [fact.values for fact in facts if fact.values.get("relative", ("", 0))[0] == "day"]
    todays = {values["date"] - values["relative"][1] for values in near if abs(values["relative"][1]) > 1}
    assert len(near) > 20 and len(todays) == 1


def test_labels_cover_the_sentence():
    for language, index in itertools.product(cldr_places.LANGUAGES, range(30)):
        found = cldr_examples.label(language, index, split="validation")
        assert len(found["tokens"]) == len(found["tags"]) == len(found["starts"])
        assert set(found["tags"]) <= set(cldr_examples.TAGS) and set(found["tags"]) != {"O"}
        for token, start in zip(found["tokens"], found["starts"]):
            assert found["text"].startswith(token, start)
        covered = sum(map(len, found["tokens"])) + sum(char.isspace() for char in found["text"])
        assert covered == len(found["text"])
        for before, tag in zip(("O", *found["tags"]), found["tags"]):
            assert tag[0] != "I" or before[2:] == tag[2:]


def test_a_date_is_labelled_in_any_order_of_its_parts():
    fact = cldr_facts.Fact(kind="date", layout=0, values={"date": datetime.date(2024, 3, 14).toordinal()})
    assert cldr_text.language("te").say(fact)[0] == ("14", "day")
    assert cldr_text.language("ja").say(fact) == [
        ("2024", "year"), ("年", ""), ("3", "month"), ("月", ""), ("14", "day"), ("日", ""), ("木曜日", "weekday"),
    ]  # fmt: skip
    assert cldr_text.language("mr").say(fact)[2] == ("१४", "day")


def test_words():
    def cut(text):
        return [text[start:stop] for start, stop in cldr_examples.words(text)]

    assert cut("Sept. 5:15 PM, 1.234,5 °C") == ["Sept", ".", "5:15", "PM", ",", "1.234,5", "°", "C"]
    assert cut(" (हिन्दी)") == ["(", "हिन्दी", ")"] and cut("") == [] and cut("…") == ["…"]


def test_examples_say_the_same_in_every_language():
    for index in range(40):
        kinds = {cldr_examples.classify(language, index, split="test")["kind"] for language in cldr_places.LANGUAGES}
        assert len(kinds) == 1
    pair = cldr_examples.translate("en", "de", 3, split="test")
    assert pair["kind"] == "date" and pair["source"] != pair["target"]
    back = cldr_examples.translate("de", "en", 3, split="test")
    assert (back["target"], back["source"]) == (pair["source"], pair["target"])
    day = datetime.datetime.strptime(pair["source"], "%A, %B %d, %Y").date()
    assert dates.format_date(day, "full", locale="de") == pair["target"]
    assert cldr_facts.split_of("date", day.toordinal()) == "test"
    mixed = {
        cldr_examples.translate("en", "fr", i, split="train", kinds=cldr_facts.KINDS, layout=None)["kind"]
        for i in range(99)
    }
    assert len(mixed) > 8


def test_label_sets():
    assert cldr_examples.tags() == cldr_examples.TAGS and cldr_examples.TAGS[0] == "O"
    assert len(set(cldr_examples.TAGS)) == len(cldr_examples.TAGS) == 2 * len(cldr_text.LABELS) + 1
    assert cldr_examples.kinds() == cldr_examples.KINDS == tuple(cldr_facts.LAYOUTS)


def test_kinds_are_balanced():
    kinds = collections.Counter(cldr_examples.classify("en", i, split="train")["kind"] for i in range(2800))
    assert set(kinds) == set(cldr_examples.KINDS) and min(kinds.values()) > 140


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: cldr.Cldr(languages=("en", "xx")), "has no language 'xx': choose from ar, de"),
        (lambda: cldr.Cldr(languages=()), "at least one"),
        (lambda: cldr.Cldr(languages=("en", "en")), "name each once"),
        (lambda: cldr.Cldr(languages=("en",)).document("de", 0), "has no language 'de': choose from en"),
        (lambda: CORPUS.document("de", 0, "dev"), "no split 'dev': choose from train, validation, test"),
        (lambda: CORPUS.document("de", -1), "count from 0"),
        (lambda: cldr_examples.label("en", 0, split="dev"), "no split 'dev'"),
        (lambda: cldr_text.language("nl"), "no language 'nl'"),
    ],
)
def test_refuses(make, message):
    with pytest.raises(ValueError, match=message):
        make()
