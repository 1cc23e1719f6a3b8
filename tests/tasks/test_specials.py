import json
import subprocess
import sys

import pytest

from tasks import card, specials

FULL = specials.Specials(size=64, mask=3, doc=4, sentinels=(63, 62, 61), modes={"R": 5, "S": 6})


def test_json_round_trip_is_plain_and_exact():
    assert specials.Specials.from_json(json.loads(json.dumps(FULL.to_json()))) == FULL


def test_equal_specials_hash_alike():
    assert hash(FULL) == hash(specials.Specials.from_json(FULL.to_json()))


def test_every_meaning_has_a_name():
    named = FULL.named()
    assert (named["mask"], named["sentinel 0"], named["sentinel 2"], named["mode S"]) == (3, 63, 61, 6)
    assert "doc" not in specials.Specials(size=64).named()


def test_start_may_be_any_id_and_pad_may_be_eos():
    assert specials.Specials(size=8, pad=5, eos=5, start=5).eos == 5


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"mask": 64}, "outside the vocabulary of 64 ids"),
        ({"mask": -1}, "outside"),
        ({"mask": 1}, "both 'eos' and 'mask'"),
        ({"sentinels": (9, 9)}, "both 'sentinel 0' and 'sentinel 1'"),
        ({"modes": {"R": 0}}, "both 'pad' and 'mode R'"),
    ],
)
def test_ids_that_cannot_be_are_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        specials.Specials(**{"size": 64, **wrong})


def test_needing_what_is_missing_names_both_sides():
    assert FULL.need("sentinel 1", "SpanCorruption") == 62
    with pytest.raises(ValueError) as caught:
        specials.Specials(size=64).need("mask", "MaskedLM")
    assert "MaskedLM needs the special id 'mask'" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_json_of_other_fields_is_refused():
    with pytest.raises(ValueError, match="colour"):
        specials.Specials.from_json({**FULL.to_json(), "colour": 1})


def test_card_round_trip(tmp_path):
    written = card.plain(FULL)
    assert card.read(tmp_path) is None
    written.write(tmp_path)
    assert card.read(tmp_path) == written


@pytest.mark.parametrize("text", ["{", "[]", '{"kind": "bytes"}'])
def test_a_damaged_card_is_one_line(tmp_path, text):
    (tmp_path / card.FILE).write_text(text)
    with pytest.raises(ValueError, match="vocabulary.json") as caught:
        card.read(tmp_path)
    assert "\n" not in str(caught.value)


def test_specials_import_the_standard_library_alone():
    code = "import sys; from tasks import specials; print({'numpy', 'tensorstore', 'jax'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"
