"""Corrupted rows come back from a store as they were: packed, padded, with slots unused; what couldn't is refused."""

import numpy as np
import pytest

from tasks import card, corrupted, corrupted_rows, corrupted_store, masking, pieces, specials, store, writer

LENGTH, MASKED = 24, 4
# As GPT-2's: padding has the id of the end, so that a row's last segment may look like padding.
SPECIAL = specials.Specials(size=100, pad=1, eos=1, mask=3)


def packed(rng, rows):
    """A batch of rows of several documents, some with room left over, one of ends alone, one nearly empty."""
    found = []
    for row in range(rows):
        lengths = rng.integers(1, 9, 5) if row % 3 else np.array([LENGTH])
        found.append([np.append(rng.integers(10, 100, length - 1), 1) for length in lengths])
    found[1], found[2] = [np.array([10, 11, 1]), np.array([1]), np.array([1])], [np.array([12, 1])]
    batch = masking.MaskedLM(mask=1.0, random=0.0, keep=0.0).rows(
        pieces.Pieces.of(found), [rng] * rows, inputs=LENGTH, targets=0, specials=SPECIAL
    )
    batch["part"] = rng.integers(0, 3, rows).astype(np.int32)
    read = batch["encoder_inputs"].copy()
    used = batch["weights"] > 0
    drawn = np.where(rng.random(used.shape) < 0.3, batch["targets"], rng.integers(10, 100, used.shape))
    read[np.nonzero(used)[0], batch["target_positions"][used]] = drawn[used]
    assert 0 < used.sum() < used.size and (read[used.any(1)] != 3).all()
    return batch, read.astype(np.int32)


def stored(folder, several):
    store_ = folder / "plain"
    writer.write(store_, "aa", [[10, 1]], vocabulary=card.plain(SPECIAL))
    about = {"description": "made up", "digest": "0", "command": "baton corrupt", "inputs": LENGTH, "targets": MASKED}
    out = corrupted_store.Writer(
        folder / "out", "train", vocabulary=str(store_), about={**about, "parts": ["a", "b", "c"]}
    )
    for batch, read in several:
        out.put(corrupted_rows.Rows.of(batch, read=read, pad=1))
    out.close()
    return corrupted.Corrupted(store=str(folder / "out"), inputs=LENGTH, targets=MASKED)


def test_rows_come_back_as_they_were(tmp_path):
    rng = np.random.default_rng(0)
    several = [packed(rng, 6) for _ in range(3)]
    data = stored(tmp_path, several)
    assert not data.problems() and data.parts() == ("a", "b", "c")
    feed = data.feed(batch=6, seed=9)
    for batch, read in [*several, several[0]]:
        found = next(feed)
        assert {name: (value.shape, value.dtype) for name, value in found.items()} == data.spec(6)
        for name, value in {**batch, "encoder_inputs": read}.items():
            np.testing.assert_array_equal(found[name], value, err_msg=name)
    feed.close()
    halves = [data.feed(batch=6, seed=0, start=1, process_index=index, process_count=2) for index in (0, 1)]
    shares = [next(half) for half in halves]
    for half in halves:
        half.close()
    np.testing.assert_array_equal(np.concatenate([share["targets"] for share in shares]), several[1][0]["targets"])
    opened = data.open()
    across = opened.batch(np.array([17, 18, 1]))
    np.testing.assert_array_equal(across["encoder_inputs"][0], several[2][1][5])
    np.testing.assert_array_equal(across["encoder_inputs"][1:], several[0][1][:2])
    # Both streams are ordinary parts of a store, whose documents are the segments.
    originals = store.open(data.store, "train", split="originals")
    segments = sum(int(batch["encoder_segments"].max(1).sum()) for batch, _ in several)
    padded = sum(int((batch["encoder_segments"] == 0).any(1).sum()) for batch, _ in several)
    assert originals.documents == segments + padded and originals.tokens == 18 * LENGTH
    with pytest.raises(ValueError, match="no finished part"):
        store.open(data.store, "train")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("encoder_positions", lambda x: x + 1),
        ("encoder_segments", lambda x: x * 2),
        ("weights", lambda x: x * 0.5),
        ("targets", lambda x: x + 1),
        ("encoder_types", lambda x: np.zeros((6, LENGTH), np.int32)),
    ],
)
def test_rows_that_would_not_come_back_are_refused(name, change):
    batch, read = packed(np.random.default_rng(0), 6)
    assert corrupted_rows.Rows.of(batch, read=read, pad=1)
    changed = {**batch, name: change(batch.get(name))}
    with pytest.raises(ValueError, match=f"rows whose {name} don't follow"):
        corrupted_rows.Rows.of(changed, read=read, pad=1)


def test_a_limit_that_is_none_is_refused():
    with pytest.raises(ValueError, match="max_epochs=0 is no number of epochs"):
        corrupted.Corrupted(store="x", inputs=8, targets=1, max_epochs=0)
