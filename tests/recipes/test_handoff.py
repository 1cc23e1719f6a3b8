"""Handoffs are total both ways, name both sides in every refusal, and never change a value behind one's back."""

import types

import numpy as np
import pytest

from recipes import handoff, recipe, transforms


def leaves(**shapes):
    return {
        path.replace("__", "/"): types.SimpleNamespace(shape=shape, dtype=np.dtype(np.float32))
        for path, shape in shapes.items()
    }


SOURCE = leaves(encoder__layers__k=(4, 2, 3), token__embedding=(7, 3), mlm_head__bias=(7,))
TARGET = leaves(encoder__layers__k=(4, 2, 3), token__embedding=(7, 3), decoder__layers__k=(2, 2, 3))
TAKE = ((r"(encoder|token)/.*", r"\g<0>"),)
FRESH, DROP = (r"decoder/.*",), (r"mlm_head/.*",)


def plan(take=TAKE, fresh=FRESH, drop=DROP, source=SOURCE, target=TARGET):
    return handoff.plan(recipe.Handoff(source="s", take=take, fresh=fresh, drop=drop), source, target)


def test_every_parameter_is_accounted_for():
    found = plan()
    assert not found.problems
    assert [entry.target for entry in found.taken] == ["encoder/layers/k", "token/embedding"]
    assert [entry.target for entry in found.fresh] == ["decoder/layers/k"]
    assert found.json()["parameters"] == {"copied": 24 + 21, "fresh": 12, "dropped": 7}
    assert "decoder/layers/k" in "\n".join(found.lines())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fresh": ()}, "target parameter decoder/layers/k [2, 2, 3] is neither taken nor fresh; add it to take or fresh"),
        ({"drop": ()}, "source parameter mlm_head/bias [7] is neither read nor dropped; add it to take or drop"),
        ({"drop": (*DROP, "mlm_haed/.*")}, "rule drop 'mlm_haed/.*' matches nothing; did you mean 'mlm_head/bias'?"),
        ({"fresh": (*FRESH, "decoder2/.*")}, "rule fresh 'decoder2/.*' matches nothing; did you mean 'decoder/layers/k'?"),
        ({"take": (*TAKE, ("x/y", "x"))}, "rule take 'x/y' matches nothing"),
        ({"take": ((r"(encoder|token)/(.*)", r"encodr/\2"),)}, "target encoder/layers/k takes 'encodr/layers/k', which"),
        ({"take": (("/encoder/.*", "x"),)}, "handoff: pattern '/encoder/.*' begins with '/'; paths don't"),
        ({"take": (("(encoder", "x"),)}, "is no regular expression"),
        (
            {"fresh": (), "take": (*TAKE, (r"decoder/(.*)", r"encoder/\1"))},
            "target decoder/layers/k has shape [2, 2, 3] and source encoder/layers/k gives [4, 2, 3]; give the rule a transform",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_both_sides(change, message):
    assert any(message in problem for problem in plan(**change).problems), plan(**change).problems


def test_dtypes_change_only_by_request():
    half = dict(SOURCE)
    half["token/embedding"] = types.SimpleNamespace(shape=(7, 3), dtype=np.dtype(np.float16))
    assert "token/embedding is float32 and source token/embedding is float16" in plan(source=half).problems[0]
    cast = recipe.Take(target=r"(encoder|token)/.*", by=transforms.Cast())
    assert not plan(source=half, take=(cast,)).problems


def test_two_targets_may_read_one_source_with_layers_picked():
    take = (*TAKE, recipe.Take(target=r"decoder/(.*)", source=r"encoder/\1", by=transforms.PickLayers()))
    found = plan(take=take, fresh=())
    assert not found.problems
    arrays = {"encoder/layers/k": np.arange(24.0).reshape(4, 2, 3), "token/embedding": np.ones((7, 3))}
    filled = handoff.execute(found, arrays.__getitem__, lambda path, array: array)
    np.testing.assert_array_equal(filled["decoder/layers/k"], arrays["encoder/layers/k"][[0, 3]])
    np.testing.assert_array_equal(filled["encoder/layers/k"], arrays["encoder/layers/k"])


def test_layers_are_picked_evenly_and_only_where_there_are_enough():
    pick = transforms.PickLayers()
    assert [pick(np.arange(12)[:, None], (n, 1))[:, 0].tolist() for n in (1, 2, 3)] == [[0], [0, 11], [0, 6, 11]]
    with pytest.raises(ValueError, match="the target has 5 layers and the source 4"):
        pick.shape((4, 1), (5, 1))
    with pytest.raises(ValueError, match="picks layer 9 of a source with layers 0 to 3"):
        transforms.PickLayers(layers=(0, 9)).shape((4, 1), (2, 1))


def test_the_first_rule_that_matches_wins():
    take = (("token/embedding", "token/embedding"), (r"(encoder|token)/.*", r"\g<0>"))
    assert not plan(take=take).problems
    swapped = plan(take=take[::-1])
    assert any("rule take 'token/embedding' matches nothing" in problem for problem in swapped.problems)


def test_a_sum_that_the_source_offers_is_read_by_its_name_and_needs_no_rule():
    own = leaves(a__x=(2,), b__x=(2,), a__y=(3,))
    source = handoff.offered(own, {"c/x": ("a/x", "b/x"), "lost/x": ("a/x", "gone/x"), "a/x": ("b/x",)})
    assert set(source) - set(own) == {"c/x"} and source["a/x"] is own["a/x"]
    take = ((r"c/x", r"\g<0>"), (r"a/y", r"\g<0>"))
    found = plan(take=take, fresh=(), drop=(), source=source, target=leaves(c__x=(2,), a__y=(3,)))
    assert not found.problems and not found.dropped
    (plain, total) = found.entries
    assert (plain.identity, total.identity, total.reads) == (True, False, ("a/x", "b/x"))
    assert "c/x  <-  a/x + b/x  [2]" in found.lines() and found.json()["taken"][1]["source"] == "a/x + b/x"
    values = {path: np.full(leaf.shape, number) for number, (path, leaf) in enumerate(sorted(own.items()), 1)}
    filled = handoff.execute(found, values.__getitem__, lambda path, array: array)
    np.testing.assert_array_equal(filled["c/x"], [4, 4])
    left = plan(take=take[1:], fresh=(), drop=(), source=source, target=leaves(a__y=(3,)))
    assert sorted(left.problems) == [
        f"source parameter {path} [2] is neither read nor dropped; add it to take or drop" for path in ("a/x", "b/x")
    ]
