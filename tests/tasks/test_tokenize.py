import hashlib
import pathlib
import random

import pytest

from tasks import chunks, encoder, place, sources, store, tokenize, vocabulary, writer

SLICE = 4000


def texts(seed, count):
    rng = random.Random(seed)
    words = ["ein", "zwei", "drei", "vier", "fünf"]
    return [f"{number} " + " ".join(rng.choices(words, k=rng.randint(1, 60))) for number in range(count)]


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    root = tmp_path_factory.mktemp("text")
    for seed, name in enumerate(("de", "en")):
        (root / f"{name}.txt").write_text("\n".join([*texts(seed, 400), "  ", ""]))
    return {name: sources.Lines(files=str(root / f"{name}.txt")) for name in ("de", "en")}


@pytest.fixture(scope="module")
def pieces(tmp_path_factory, parts):
    root = tmp_path_factory.mktemp("vocabulary") / "v"
    return vocabulary.train(parts, root, size=300, sentinels=5, sentences=500, threads=2)


def build(parts, spelling, directory, **options):
    return tokenize.build(
        parts, spelling, directory, **{"processes": 1, "slice_characters": SLICE, "validation": 0.05, **options}
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory, parts, pieces):
    """A store built in one go by one process."""
    root = tmp_path_factory.mktemp("whole")
    build(parts, pieces, root)
    return root


def contents(directory):
    """Every file below, by its digest."""
    found = [path for path in pathlib.Path(directory).rglob("*") if path.is_file()]
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def test_a_store_holds_every_document_on_one_side(whole, parts, pieces):
    for name, source in parts.items():
        train, held = (store.open(whole, name, split=split) for split in ("train", "validation"))
        for part in (train, held):
            part.verify()
        found = [pieces.decode(ids[:-1]) for part in (train, held) for ids in part.between(0, part.documents)]
        assert sorted(found) == sorted(source.documents())
        assert 0 < held.documents < 0.15 * train.documents
        assert all(ids[-1] == 1 for ids in train.between(0, train.documents))
        assert train.manifest.characters + held.manifest.characters == sum(map(len, source.documents()))
        assert train.manifest.bytes > train.manifest.characters
        assert train.manifest.source["digest"] == source.digest()
        assert train.manifest.vocabulary == pieces.fingerprint
    assert not list(pathlib.Path(whole).rglob(chunks.FOLDER))


def test_documents_keep_their_order(whole, parts, pieces):
    order = {text: number for number, text in enumerate(parts["de"].documents())}
    part = store.open(whole, "de")
    found = [order[pieces.decode(ids[:-1])] for ids in part.between(0, part.documents)]
    assert found == sorted(found)


def test_the_store_opens_as_a_vocabulary(whole, pieces):
    assert vocabulary.encoder(whole).card == pieces.card == store.vocabulary(whole)


def test_processes_and_slices_do_not_change_a_byte(tmp_path, whole, parts, pieces):
    expected = contents(whole)
    for name, options in {"processes": {"processes": 3}, "slices": {"slice_characters": 10**6}}.items():
        build(parts, pieces, tmp_path / name, **options)
        assert contents(tmp_path / name) == expected


def test_a_held_out_file_is_a_split_of_its_own(tmp_path, parts, pieces):
    build({"de": parts["de"]}, pieces, tmp_path, validation=0.0)
    build({"de": parts["en"]}, pieces, tmp_path, validation=0.0, split="validation")
    assert store.parts(tmp_path, split="validation") == store.parts(tmp_path) == ("de",)
    with pytest.raises(ValueError, match="hold it out of 'train'"):
        build({"de": parts["en"]}, pieces, tmp_path, split="validation")


def test_killed_after_the_manifest_nothing_is_left_behind(tmp_path, whole, parts, pieces, monkeypatch):
    with monkeypatch.context() as patched, pytest.raises(ZeroDivisionError):
        patched.setattr(place.Place, "delete", lambda *_: 1 / 0)
        # A new folder of chunks is cleared first, too.
        build({"de": parts["de"]}, pieces, tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(place.Place, "delete", lambda *_: None)
        build({"de": parts["de"]}, pieces, tmp_path)
    assert list(tmp_path.rglob(chunks.FOLDER))
    build(parts, pieces, tmp_path)
    assert contents(tmp_path) == contents(whole)


def test_a_store_may_be_named_by_url(tmp_path, whole, parts, pieces):
    url = f"file://{tmp_path}/store"
    build(parts, pieces, url)
    found, expected = contents(tmp_path / "store"), contents(whole)
    assert found.keys() == expected.keys()
    # Manifests differ in the sizes of files, which a bucket does not tell.
    assert all(found[name] == expected[name] for name in found if not name.endswith("manifest.json"))
    build(parts, pieces, url)
    assert store.parts(url) == ("de", "en")
    store.open(url, "de", fingerprint=pieces.fingerprint).verify()
    assert vocabulary.encoder(url).card == pieces.card
    store.open(tmp_path / "store", "de").verify()
    (tmp_path / "store" / "de" / "tokens" / "c" / "0").unlink()
    with pytest.raises(ValueError, match="is missing"):
        store.open(url, "de")


@pytest.mark.parametrize("moment", ["append", "close"])
def test_killed_while_joining_the_store_is_the_same(tmp_path, whole, parts, pieces, monkeypatch, moment):
    class Killed(Exception):
        pass

    calls = []

    def dying(self, *args, **options):
        calls.append(moment)
        if len(calls) == 3:
            raise Killed
        return real(self, *args, **options)

    real = getattr(writer.Writer, moment)
    monkeypatch.setattr(writer.Writer, moment, dying)
    with pytest.raises(Killed):
        build(parts, pieces, tmp_path)
    assert set(store.parts(tmp_path)) < {"de", "en"}
    monkeypatch.undo()
    build(parts, pieces, tmp_path)
    assert contents(tmp_path) == contents(whole)


def test_a_finished_part_is_left_alone(tmp_path, parts, pieces):
    build(parts, pieces, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    states = []
    build(parts, pieces, tmp_path, progress=states.append)
    assert [state.state for state in states] == ["kept", "kept"]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before


def test_parts_may_be_added(tmp_path, whole, parts, pieces):
    for name in ("en", "de"):
        build({name: parts[name]}, pieces, tmp_path)
    assert contents(tmp_path) == contents(whole)


def refusal(*args, **options):
    with pytest.raises(ValueError) as caught:
        build(*args, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def finished(tmp_path, parts, pieces):
    """A store of one part, with its contents."""
    build({"de": parts["de"]}, pieces, tmp_path / "store")
    return tmp_path / "store", contents(tmp_path / "store")


def test_another_source_vocabulary_or_share_is_refused_and_nothing_is_lost(finished, parts, pieces):
    directory, before = finished
    said = refusal({"de": parts["en"]}, pieces, directory)
    assert parts["de"].digest()[:12] in said
    assert parts["en"].digest()[:12] in said
    assert "--overwrite" in said
    said = refusal({"de": parts["de"]}, "bytes", directory)
    assert pieces.fingerprint[:12] in said
    assert "validation=0.05, now validation=0.5" in refusal({"de": parts["de"]}, pieces, directory, validation=0.5)
    assert "which de, de.validation need" in refusal({"en": parts["en"]}, "bytes", directory)
    assert "which de, de.validation need" in refusal({"en": parts["en"]}, "bytes", directory, overwrite=True)
    assert contents(directory) == before


def test_overwriting_replaces_the_part_and_the_vocabulary(finished, parts):
    directory, before = finished
    build({"de": parts["en"]}, "bytes", directory, overwrite=True)
    part = store.open(directory, "de")
    assert part.manifest.source["digest"] == parts["en"].digest()
    assert part.manifest.vocabulary == store.vocabulary(directory).fingerprint == encoder.Bytes().fingerprint
    assert contents(directory) != before


def test_what_was_held_out_goes_when_it_is_trained_on(finished, parts, pieces):
    directory, _ = finished
    build({"de": parts["de"]}, pieces, directory, validation=0.0, overwrite=True)
    assert store.open(directory, "de").documents == 400
    assert store.parts(directory, split="validation") == ()


def test_an_interrupted_build_of_another_source_is_refused(tmp_path, parts, pieces, monkeypatch):
    with monkeypatch.context() as patched, pytest.raises(ZeroDivisionError):
        patched.setattr(writer.Writer, "close", lambda *_, **__: 1 / 0)
        build({"de": parts["de"]}, pieces, tmp_path)
    assert "was built from" in refusal({"de": parts["en"]}, pieces, tmp_path)
    build({"de": parts["en"]}, pieces, tmp_path, overwrite=True)
    assert store.open(tmp_path, "de").manifest.source["digest"] == parts["en"].digest()


def test_a_damaged_part_is_refused_until_it_is_overwritten(finished, parts, pieces):
    directory, before = finished
    (directory / "de.validation" / "tokens" / "c" / "0").write_bytes(b"")
    assert "is damaged" in refusal({"de": parts["de"]}, pieces, directory)
    build({"de": parts["de"]}, pieces, directory, overwrite=True)
    assert contents(directory) == before


def test_sources_without_enough_text_are_refused(tmp_path, parts, pieces):
    (tmp_path / "empty.txt").write_text("\n\n")
    (tmp_path / "one.txt").write_text("ein Text\n")
    empty, one = (sources.Lines(files=str(tmp_path / f"{name}.txt")) for name in ("empty", "one"))
    assert "has no text" in refusal({"de": empty}, pieces, tmp_path / "a", validation=0.0)
    assert "holds out no document" in refusal({"de": one}, pieces, tmp_path / "b", validation=1e-9)
    assert "name at least one part" in refusal({}, pieces, tmp_path / "c")
    assert "matches no file" in refusal({"de": sources.Lines(files="no/such")}, pieces, tmp_path / "c")
    assert "cannot name a part" in refusal({"d/e": parts["de"]}, pieces, tmp_path / "c")
    assert not (tmp_path / "c").exists()
    assert store.parts(tmp_path / "a") == store.parts(tmp_path / "b") == ()


def test_progress_is_told_part_by_part(tmp_path, parts, pieces):
    told = []
    build(parts, pieces, tmp_path, progress=told.append)
    assert {state.part for state in told} == {"de", "en"}
    for name in parts:
        mine = [state for state in told if state.part == name]
        assert [state.state for state in mine[-2:]] == ["joining", "done"]
        assert {state.state for state in mine[:-2]} == {"spelling"}
        for quantity in ("share", "documents", "tokens", "bytes"):
            values = [getattr(state, quantity) for state in mine]
            assert values == sorted(values)
        assert (mine[-1].share, mine[-1].documents) == (1.0, 400)
