import json
import pickle
import subprocess
import sys

import numpy as np
import pytest

from tasks import card, layout, offsets, place, specials, store, writer

SIZE = 1000
CARD = card.plain(specials.Specials(size=SIZE))


@pytest.fixture(scope="module")
def documents():
    rng = np.random.default_rng(0)
    return [np.append(rng.integers(10, SIZE, rng.integers(0, 40)), 1) for _ in range(3000)]


@pytest.fixture(scope="module")
def directory(tmp_path_factory, documents):
    root = tmp_path_factory.mktemp("store")
    writer.write(root, "en", documents, vocabulary=CARD)
    writer.write(root, "de", documents[:5], vocabulary=CARD)
    writer.write(root, "en", documents[:7], vocabulary=CARD, split="validation")
    return root


@pytest.fixture
def copy(tmp_path, documents):
    """A small store to damage."""
    writer.write(tmp_path, "en", documents[:300], vocabulary=CARD)
    return tmp_path


def refusal(directory, part="en", **options):
    with pytest.raises(ValueError) as caught:
        store.open(directory, part, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_windows_are_the_stream_and_wrap_around(directory, documents):
    stream = np.concatenate(documents)
    part = store.open(directory, "en")
    assert (part.tokens, part.documents) == (len(stream), len(documents))
    starts = [0, 17, len(stream) - 5, 3 * len(stream) + 2]
    for start, window in zip(starts, part.read(starts, 50), strict=True):
        assert window.dtype == np.int32
        np.testing.assert_array_equal(window, np.take(stream, np.arange(start, start + 50), mode="wrap"))


def test_a_window_longer_than_the_stream_repeats_it(directory, documents):
    stream = np.concatenate(documents[:5])
    part = store.open(directory, "de")
    length = 2 * len(stream) + 3
    np.testing.assert_array_equal(part.read([4], length)[0], np.take(stream, np.arange(4, 4 + length), mode="wrap"))
    assert len(part.windows([4], length)[0]) > 10


def test_pieces_are_cut_exactly_behind_every_eos(directory, documents):
    part = store.open(directory, "en")
    rng = np.random.default_rng(1)
    starts = [0, part.tokens - 3, *rng.integers(0, part.tokens, 50)]
    for window, row, start in zip(part.read(starts, 97), part.windows(starts, 97), starts, strict=True):
        cuts = part.pieces(start, 97)
        assert (cuts[0], cuts[-1]) == (0, 97)
        np.testing.assert_array_equal(cuts[1:-1], np.flatnonzero(window[:-1] == 1) + 1)
        np.testing.assert_array_equal(np.concatenate(row), window)
        assert all(len(piece) for piece in row)


def test_whole_documents_come_back(directory, documents):
    part = store.open(directory, "en")
    for found, expected in zip(part.between(10, 500), documents[10:500], strict=True):
        np.testing.assert_array_equal(found, expected)


def test_parts_and_splits_are_listed(directory):
    assert store.parts(directory) == ("de", "en")
    assert store.parts(directory, split="validation") == ("en",)
    assert store.open(directory, "en", split="validation").documents == 7


def test_offsets_on_disk_answer_as_those_in_memory(tmp_path, documents):
    lengths = np.random.default_rng(2).integers(1, 5, 20_000)
    values = np.concatenate([[0], np.cumsum(lengths)])
    where = place.Place(str(tmp_path))
    array = layout.create(where, "offsets", length=len(values), dtype="int64")
    array.write(values).result()
    whole, indexed = offsets.Offsets(array), offsets.Offsets(array, in_memory=10)
    assert whole._whole is not None
    assert indexed._whole is None
    for start, stop in [(0, 5), (0, int(values[-1])), (12_287, 12_289), (40_000, 40_100), (49_000, 49_001)]:
        np.testing.assert_array_equal(indexed.between(start, stop), whole.between(start, stop))
    assert indexed.at(4095) == whole.at(4095) == (values[4095], values[4096])


@pytest.mark.parametrize(("size", "dtype"), [(2**16, "uint16"), (2**16 + 1, "uint32")])
def test_the_smallest_dtype_that_holds_the_ids(tmp_path, size, dtype):
    made = card.plain(specials.Specials(size=size))
    writer.write(tmp_path, "en", [[size - 1, 1]], vocabulary=made)
    part = store.open(tmp_path, "en")
    assert part.manifest.dtype == dtype
    assert part.read([0], 2)[0].tolist() == [size - 1, 1]


def test_arrays_longer_than_a_shard(tmp_path, monkeypatch, documents):
    monkeypatch.setattr(layout, "SHARD", 4096 * 2)
    writer.write(tmp_path, "en", documents, vocabulary=CARD)
    part = store.open(tmp_path, "en")
    assert len([name for name in part.manifest.files if name.startswith("tokens/c/")]) > 3
    part.verify()
    np.testing.assert_array_equal(part.read([0], part.tokens)[0], np.concatenate(documents))


def test_a_part_travels_between_processes(directory):
    part = store.open(directory, "en")
    again = pickle.loads(pickle.dumps(part))
    np.testing.assert_array_equal(again.read([5], 9)[0], part.read([5], 9)[0])


def test_a_part_that_is_not_there(directory, tmp_path):
    assert "finished: de, en" in refusal(directory, "fr")
    assert "is not a store" in refusal(tmp_path)
    assert "cannot name a part" in refusal(directory, "../en")


def test_an_unfinished_part_is_refused(copy):
    (copy / "en" / "manifest.json").unlink()
    assert "no finished part 'en'" in refusal(copy)
    assert store.parts(copy) == ()


def test_another_vocabulary_is_refused(copy):
    other = card.plain(specials.Specials(size=SIZE), name="other")
    said = refusal(copy, fingerprint=other.fingerprint)
    assert CARD.fingerprint[:12] in said
    assert other.fingerprint[:12] in said
    other.write(copy)
    assert "the store has" in refusal(copy)
    with pytest.raises(ValueError, match="another directory"):
        writer.write(copy, "fr", [[5, 1]], vocabulary=CARD)


def damage_manifest(copy, **changes):
    path = copy / "en" / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": 9}, "of format 9 but this program reads format 1"),
        ({"tokens": 5}, "its manifest says"),
        ({"documents": 299}, "its manifest says"),
        ({"dtype": "uint32"}, "its manifest says"),
        ({"probe": "0"}, "are not those that the manifest was written for"),
        ({"colour": 1}, "colour"),
    ],
)
def test_a_manifest_of_other_data_is_refused(copy, changes, said):
    damage_manifest(copy, **changes)
    assert said in refusal(copy)


@pytest.mark.parametrize("name", ["tokens/c/0", "offsets/c/0", "tokens/zarr.json"])
@pytest.mark.parametrize("how", ["missing", "shorter", "empty"])
def test_files_that_are_not_whole_are_refused(copy, name, how):
    path = copy / "en" / name
    contents = path.read_bytes()
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes(contents[: len(contents) // 2] if how == "shorter" else b"")
    assert "is damaged" in refusal(copy)


def flip(path, at):
    contents = bytearray(path.read_bytes())
    contents[at] ^= 1
    path.write_bytes(contents)


def test_changed_ends_are_found_when_the_part_is_opened(copy):
    flip(copy / "en" / "tokens/c/0", 3)
    assert "is damaged" in refusal(copy)


def test_a_changed_byte_in_the_middle_is_found_where_it_is_read_and_by_verify(tmp_path, documents):
    writer.write(tmp_path, "en", documents, vocabulary=CARD)
    whole = store.open(tmp_path, "en")
    whole.verify()
    flip(tmp_path / "en" / "tokens/c/0", 30_000)
    part = store.open(tmp_path, "en")
    part.read([0], 100)
    for look in (part.verify, lambda: part.read([14_990], 20)):
        with pytest.raises(ValueError, match="is damaged") as caught:
            look()
        assert "\n" not in str(caught.value)


def test_other_tokens_of_the_same_size_fail_verify(tmp_path, documents):
    writer.write(tmp_path, "en", documents, vocabulary=CARD)
    changed = [document.copy() for document in documents]
    changed[1500][0] = 11 if changed[1500][0] != 11 else 12
    writer.write(tmp_path, "de", changed, vocabulary=CARD)
    for name in ("manifest.json", "offsets/c/0"):
        (tmp_path / "de" / name).write_bytes((tmp_path / "en" / name).read_bytes())
    with pytest.raises(ValueError, match="its digest is"):
        store.open(tmp_path, "de").verify()


@pytest.mark.parametrize("documents", [[], [[]], [[SIZE]], [[-1]]])
def test_nothing_and_foreign_ids_are_not_written(tmp_path, documents):
    with pytest.raises(ValueError, match="below 1000"):
        writer.write(tmp_path, "en", documents, vocabulary=CARD)
    assert not list(tmp_path.iterdir())


def test_announced_sizes_are_kept(tmp_path):
    whole = writer.Writer(place.Place(str(tmp_path)), tokens=3, documents=1, dtype="uint16")
    whole.append(np.array([5, 1], np.uint16), np.array([2]))
    with pytest.raises(ValueError, match="announced"):
        whole.close(part="en", split="train", vocabulary="", source={}, characters=0, bytes=0)
    assert not (tmp_path / "manifest.json").exists()


def test_reading_a_store_imports_no_tensorflow():
    names = "{'tensorflow', 'seqio', 'jax'}"
    code = f"import sys; from tasks import store, writer, tokenize; print({names} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"
