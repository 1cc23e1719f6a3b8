"""Another vocabulary and longer tables of positions: which row becomes which, and what the plan says of it."""

import types

import numpy as np
import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from recipes import config, handoff, recipe, transforms
from tasks import matching, vocabulary

OLD = ["<pad>", "</s>", "<unk>", "<mask>", "▁the", "▁cat", "s", "▁dog", "▁", "t", "o"]
NEW = ["[SEP]", "[PAD]", "[MASK]", "[UNK]", "cat", "the", "##s", "dogs", "##to", "§", "[DOC]"]


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    """Pieces with a mark for the space before them."""
    made = tokenizers.Tokenizer(models.Unigram([(piece, -1.0) for piece in OLD], unk_id=2))
    made.pre_tokenizer = pre_tokenizers.Metaspace()  # pyright: ignore
    made.decoder = decoders.Metaspace()  # pyright: ignore
    made.add_special_tokens(OLD[:4])
    path = tmp_path_factory.mktemp("old") / "tokenizer.json"
    made.save(str(path))
    return str(path)


@pytest.fixture(scope="module")
def new(tmp_path_factory):
    """Pieces with a mark for no space before them, in another order, with other names for the specials."""
    made = tokenizers.Tokenizer(models.WordPiece({piece: n for n, piece in enumerate(NEW)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()  # pyright: ignore
    made.decoder = decoders.WordPiece(cleanup=False)  # pyright: ignore
    made.add_special_tokens([piece for piece in NEW if piece.startswith("[")])
    path = tmp_path_factory.mktemp("new") / "tokenizer.json"
    made.save(str(path))
    return str(path)


def test_shared_pieces_keep_their_rows_and_new_ones_are_means(old, new):
    assert OLD != NEW
    change = transforms.Vocabulary(old=old, new=new)
    table = np.random.default_rng(0).normal(size=(13, 4)).astype(np.float32)
    made = change(table, (12, 4))
    row = dict(zip(OLD, table))
    wanted = {
        "[PAD]": row["<pad>"], "[SEP]": row["</s>"], "[UNK]": row["<unk>"], "[MASK]": row["<mask>"],
        "cat": row["▁cat"], "the": row["▁the"], "##s": row["s"],
        "dogs": (row["▁dog"] + row["s"]) / 2, "##to": (row["t"] + row["o"]) / 2,
    }  # fmt: skip
    for piece, value in wanted.items():
        np.testing.assert_allclose(made[NEW.index(piece)], value, rtol=1e-6, err_msg=piece)
    everything = table[: len(OLD)].mean(axis=0)
    for place in (NEW.index("§"), NEW.index("[DOC]"), 11):
        np.testing.assert_allclose(made[place], everything, rtol=1e-5)
    assert change.report((12, 4)).startswith(
        "7 rows of shared pieces, 2 means of old pieces, 2 of unknown pieces and 1 "
    )
    np.testing.assert_allclose(change(table[:, 0], (12,)), made[:, 0], rtol=1e-6)


def test_the_same_vocabulary_changes_nothing(old):
    table = np.random.default_rng(0).normal(size=(len(OLD), 3)).astype(np.float32)
    np.testing.assert_array_equal(transforms.Vocabulary(old=old, new=old)(table, table.shape), table)
    found = matching.match(vocabulary.encoder(old), vocabulary.encoder(old))
    assert (found.shared, found.spelt, found.unknown) == (len(OLD), 0, 0)


def leaves(**shapes):
    return {
        path.replace("__", "/"): types.SimpleNamespace(shape=shape, dtype=np.dtype(np.float32))
        for path, shape in shapes.items()
    }


def test_the_shipped_handoff_plans_a_new_vocabulary_and_says_how_many_rows(old, new):
    given = [f"OLD_VOCABULARY={old!r}", f"NEW_VOCABULARY={new!r}", "new_vocabulary/Handoff.source='x'"]
    rules = config.load("gin/handoffs/new_vocabulary.gin", given, of=recipe.Handoff, scope="new_vocabulary").value
    before = leaves(token_embedder__embedding=(11, 4), encoder__k=(4, 4), mlm_head__bias=(11,))
    after = leaves(token_embedder__embedding=(12, 4), encoder__k=(4, 4), mlm_head__bias=(12,))
    plan = handoff.plan(rules, before, after)
    assert not plan.problems
    assert [line.split(":")[0] for line in plan.json()["reports"]] == ["mlm_head/bias", "token_embedder/embedding"]
    assert any("token_embedder/embedding: 7 rows of shared pieces" in line for line in plan.lines())
    assert [entry.target for entry in plan.taken if not entry.identity] == ["mlm_head/bias", "token_embedder/embedding"]


def test_a_vocabulary_with_more_ids_than_rows_is_refused(old, new):
    change = transforms.Vocabulary(old=old, new=new)
    with pytest.raises(ValueError, match="has 11 ids and the source 10 rows; name the source's own"):
        change.shape((10, 4), (12, 4))
    with pytest.raises(ValueError, match="has 11 ids and the target 8 rows; name the target's own"):
        change.shape((11, 4), (8, 4))


@pytest.mark.parametrize("offset", [0, 2])
def test_positions_are_repeated_or_drawn_out_behind_the_offset(offset):
    table = np.concatenate([np.full((offset, 3), -7.0), np.arange(4.0)[:, None] * np.ones(3)]).astype(np.float32)
    repeated = transforms.RepeatPositions(offset=offset)(table, (offset + 10, 3))
    drawn = transforms.StretchPositions(offset=offset)(table, (offset + 7, 3))
    np.testing.assert_array_equal(repeated[:offset], table[:offset])
    np.testing.assert_array_equal(drawn[:offset], table[:offset])
    assert repeated[offset:, 0].tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]
    assert drawn[offset:, 0].tolist() == [0, 0.5, 1, 1.5, 2, 2.5, 3]
    assert drawn.dtype == table.dtype and transforms.StretchPositions(offset=offset).shape((9, 3), (20, 3)) == (20, 3)
    with pytest.raises(ValueError, match="the source has 3 rows and offset is 3; give the stack's position_offset"):
        transforms.RepeatPositions(offset=3).shape((3, 3), (9, 3))
