import io
import re
from html import parser

import numpy as np
import pytest
from rich import console as consoles

from tasks import blend, encoder, marks, objectives, preview, survey, writer

TEXTS = ["One fine day in May.", "Größe 12 <b>kg</b> & more", "a b c d e f g h i j k l m n o p"]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    directory = str(tmp_path_factory.mktemp("store"))
    spelling = encoder.Bytes()
    for part, texts in (("en", TEXTS * 20), ("xx", TEXTS[1:2] * 30)):
        ids = [np.append(document, spelling.specials.eos) for document in spelling.encode(texts)]
        writer.write(directory, part, ids, vocabulary=spelling.card)
    return directory


def make(store, objective, inputs=96, targets=0, **changes):
    return blend.Blend(store=store, objective=objective, inputs=inputs, targets=targets, **changes)


def shown(data, rows=2):
    console = consoles.Console(file=io.StringIO(), width=500, color_system=None)
    preview.render(data, rows, console)
    return console.file.getvalue()


def texts(made):
    return "".join(mark.text for mark in made if mark.style in ("text", "prefix"))


def test_spans_are_shown_with_their_sentinels(store):
    data = make(store, objectives.SpanCorruption(), targets=30)
    found = survey.take(data, rows=8)
    sides = marks.sides(found, 0)
    for made in sides.values():
        assert {"border", "sentinel", "text", "end"} <= {mark.style for mark in made}
        assert all(re.fullmatch(r"<extra_id_\d+>", mark.text) for mark in made if mark.style == "sentinel")
    assert len(texts(sides["inputs"])) > len(texts(sides["targets"])) > 5
    written = shown(data)
    assert "<extra_id_0>" in written and "1▸" in written and "row 1 · " in written


@pytest.mark.parametrize("kind", [objectives.MaskedLM, objectives.RestoreText])
def test_every_masked_position_tells_what_is_wanted(store, kind):
    data = make(store, kind(rate=0.3))
    found = survey.take(data, rows=8)
    made = marks.sides(found, 0)["inputs"]
    fates = [mark for mark in made if mark.style in ("mask", "random", "kept")]
    assert len(fates) == found.batch["weights"][0].sum()
    assert {mark.style for mark in fates} == {"mask", "random", "kept"}
    assert all((mark.text == mark.note) == (mark.style == "kept") and mark.note for mark in fates)
    assert "[MASK]→" in shown(data)


def test_prefix_is_told_from_what_is_written(store):
    found = survey.take(make(store, objectives.PrefixLM(kind="decoder", low=0.5, high=0.5)), rows=4)
    made = marks.sides(found, 0)["targets"]
    assert {"prefix", "text", "border"} <= {mark.style for mark in made}


def test_text_left_out_is_counted(store):
    # Rows with room for all, and rows whose targets make the inputs too long.
    roomy = survey.take(make(store, objectives.Denoise(), inputs=140, targets=97)).figures()
    tight = survey.take(make(store, objectives.SpanCorruption(), targets=4)).figures()
    prefix = survey.take(make(store, objectives.PrefixLM(low=0.5, high=0.5, kind="decoder"))).figures()
    assert roomy["share of the text left out"] == prefix["share of the text left out"] == 0
    assert tight["pieces without a target"] > 0
    found = survey.take(make(store, objectives.SpanCorruption(), targets=22))
    seen = sum(int((found.text_tokens(name)).sum()) for name in ("encoder_inputs", "targets"))
    share = found.figures()["share of the text left out"]
    assert 0 < share < 0.05 and seen < found.rows * found.data.window() * (1 - share)


def test_figures(store):
    found = survey.take(make(store, objectives.SpanCorruption(density=0.2), targets=40, rates=(("xx", 3), ("en", 1))))
    figures = found.figures()
    assert figures["rows looked at"] == found.rows == 256
    assert figures["tokens of the store a row"] == objectives.SpanCorruption(density=0.2).window(96, 40)
    assert 0.17 < figures["share of the text to predict"] < 0.23
    assert 0.9 < figures["share of inputs used (packing)"] <= 1
    used = (found.batch["decoder_segments"] > 0).mean()
    assert figures["share of targets used (packing)"] == figures["share of target slots with loss"] == used
    assert [row[:2] for row in found.composition()] == [("xx", 192), ("en", 64)]
    assert [row[3] for row in found.composition()] == [part.tokens for part in found.data.open()]
    assert sum(row[2] for row in found.composition()) == pytest.approx(1)
    for side, bins in found.histograms().items():
        lengths = found.piece_lengths({"inputs": "encoder", "targets": "decoder"}[side])
        assert sum(count for *_, count in bins) == len(lengths)
        assert bins[0][0] == 1 and bins[-1][1] == lengths.max()
        assert all(low <= high for low, high, _ in bins)
        for low, high, count in bins:
            assert count == ((lengths >= low) & (lengths <= high)).sum()


@pytest.mark.parametrize(
    ("objective", "targets", "rate"),
    [
        (objectives.MaskedLM(rate=0.25), 0, 0.25),
        (objectives.RestoreText(rate=0.25), 0, 0.25),
        (objectives.Denoise(density=0.3), 96, 0.3),
        (objectives.Denoise(density=0.3, replacement="mask"), 96, 0.3),
        (objectives.PrefixLM(low=0.6, high=0.6), 96, 0.4),
        (objectives.PrefixLM(low=0.6, high=0.6, kind="decoder"), 0, 0.4),
        (objectives.CausalLM(), 0, 1.0),
    ],
    ids=lambda value: type(value).__name__,
)
def test_corruption_rate(store, objective, targets, rate):
    assert survey.take(make(store, objective, targets=targets)).corruption() == pytest.approx(rate, abs=0.035)


class _Checker(parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.seen = [], set()

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)
        assert not {"src", "href"} & {name for name, _ in attrs}
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_page_is_whole_closed_and_escaped(store):
    data = make(store, objectives.MaskedLM(rate=0.02), rates=(("xx", 1),))
    written = preview.html(data, 3)
    checker = _Checker()
    checker.feed(written)
    assert checker.open == [] and {"table", "style", "h1"} <= checker.seen
    assert not {"script", "link", "b"} & checker.seen
    assert "&lt;b&gt;" in written and "&amp; more" in written and "Größe" in written
    assert written.count('class="row"') == 3 and "MaskedLM" in written


def test_find_a_store_or_a_mixture(store, tmp_path):
    data = preview.find(store, inputs=64, targets=20)
    assert isinstance(data, blend.Blend) and data.problems() == []
    mlm = preview.find(store, inputs=64, objective=objectives.MaskedLM())
    assert mlm.kind == "encoder"
    with pytest.raises(ValueError, match="no SeqIO task or mixture is named 'nothing such'"):
        preview.find("nothing such")


def test_seqio_mixtures_are_shown_too(tmp_path):
    from tasks import registry, sources

    text = tmp_path / "text.txt"
    text.write_text("\n".join(f"{k} bottles of beer on the wall" for k in range(300)))
    goals = {"mlm": objectives.MaskedLM(), "spans": objectives.SpanCorruption()}
    names = registry.register("test preview", {"en": sources.Lines(files=(str(text),))}, encoder.Bytes(), goals)
    for name in names[-2:]:
        data = preview.find(name, inputs=64, targets=24)
        assert data.form == ("masked" if name.endswith("mlm") else "encdec")
        written = shown(data, rows=1)
        assert "row 0 · " in written and "share of the text to predict" in written
        assert preview.html(data, 1).endswith("</html>\n")


def test_examples_with_labels(tmp_path):
    seqio = pytest.importorskip("seqio")
    import tensorflow as tf

    from tasks import examples

    spelling = seqio.ByteVocabulary()
    rows = {"inputs": tf.constant([spelling.encode("ab"), spelling.encode("cd")]), "targets": [[1, 2], [0, -100]]}
    seqio.TaskRegistry.add(
        "test_preview_labels",
        source=seqio.FunctionDataSource(
            lambda split, shuffle_files, seed=None: tf.data.Dataset.from_tensor_slices(rows), splits=("train",)
        ),
        preprocessors=[],
        output_features={
            "inputs": seqio.Feature(spelling, add_eos=False),
            "targets": seqio.Feature(seqio.PassThroughVocabulary(size=3), add_eos=False),
        },
    )
    try:
        data = examples.Examples(mixture="test_preview_labels", inputs=4, form="tokens")
        written = shown(data, rows=2)
    finally:
        seqio.TaskRegistry.remove("test_preview_labels")
    assert "<0x61>→1" in written and "<0x62>→2" in written and "<0x63>→0" in written
    assert "share of the text to predict" not in written


def test_problems_come_first(tmp_path):
    with pytest.raises(ValueError, match="no vocabulary.json"):
        preview.html(make(str(tmp_path), objectives.CausalLM()), 1)
