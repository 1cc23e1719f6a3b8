"""Decoder-only models and the handoffs between families: what is copied is equal, and who sees whom changes."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rich.console

from models import decoder, encdec, encoder, heads, stack
from recipes import checkpoint, config, handoff, plan, recipe, run

QUIET = rich.console.Console(quiet=True)
LLAMA = stack.Stack(
    layers=2, width=16, heads=4, kv_heads=2, mlp=24, activation="silu", gated=True, norm="rmsnorm",
    positions="rotary", attention_bias=False, mlp_bias=False,
)  # fmt: skip
DECODER = decoder.Decoder(stack=LLAMA, vocabulary=31)
ENCODER = encoder.Encoder(stack=LLAMA, head=heads.MaskedLM(), vocabulary=31)
BOTH = encdec.EncoderDecoder(encoder=LLAMA, decoder=LLAMA, vocabulary=31)


def shipped(name, **changes):
    path = f"gin/handoffs/{name}.gin"
    given = [f"{name}/Handoff.source='x'", *(f"{name}/Handoff.{key}={value!r}" for key, value in changes.items())]
    return config.load(path, given, of=recipe.Handoff, scope=name).value


def drawn(model, seed=0):
    rng = np.random.default_rng(seed)
    return {path: rng.normal(size=leaf.shape).astype(np.float32) for path, leaf in model.abstract().items()}


def handed(name, source, target, **changes):
    """The parameters of `source` drawn, and those of `target` after the handoff, fresh ones drawn from another seed."""
    made = handoff.plan(shipped(name, **changes), source.abstract(), target.abstract())
    assert not made.problems
    before = drawn(source)
    filled = handoff.execute(made, before.__getitem__, lambda path, array: array)
    fresh = {entry.target for entry in made.fresh}
    return before, filled | {path: value for path, value in drawn(target, 1).items() if path in fresh}, fresh


def sees(model, params, side):
    """[L, L]: whether the state at each place (row) of a side moves with the token at each place (column)."""
    ids = np.arange(5, dtype=np.int32)[None]
    names = [one for one in ("encoder", "decoder") if one == side or model.kind == "encdec"]
    batch = {f"{one}_{what}": ids for one in names for what in ("inputs", "positions")}
    batch |= {f"{one}_segments": np.ones_like(ids) for one in names}

    def states(rows):
        with_rows = params | {"token_embedder/embedding": rows}
        hidden = model.encode(with_rows, batch) if model.kind == "encdec" else model.apply(with_rows, batch).hidden
        return hidden[0] @ jnp.arange(1.0, 17.0)

    moves = jax.jit(jax.jacrev(states))(jnp.asarray(params["token_embedder/embedding"]))
    return np.array(jnp.abs(moves).max(axis=-1)[:, :5] > 0, int)


CAUSAL, OPEN = np.tril(np.ones((5, 5), int)), np.ones((5, 5), int)


def test_a_decoder_becomes_both_sides_with_cross_attention_from_self_attention():
    before, after, fresh = handed("seq2seq_from_decoder", DECODER, BOTH)
    assert not fresh
    for path, value in before.items():
        np.testing.assert_array_equal(after[path], value)
        if path.startswith("decoder/"):
            np.testing.assert_array_equal(after[path.replace("decoder/", "encoder/", 1)], value)
        if "/self_attention" in path:
            np.testing.assert_array_equal(after[path.replace("/self_attention", "/cross_attention")], value)
    np.testing.assert_array_equal(sees(DECODER, before, "decoder"), CAUSAL)
    np.testing.assert_array_equal(sees(BOTH, after, "encoder"), OPEN)


def test_fresh_cross_attention_is_all_that_is_new_and_all_that_stage_cross_trains():
    before, after, fresh = handed("seq2seq_from_decoder_fresh", DECODER, BOTH)
    assert fresh == {path for path in after if "/cross_attention" in path} and fresh
    np.testing.assert_array_equal(after["encoder/layers/mlp/wo/kernel"], before["decoder/layers/mlp/wo/kernel"])
    of = config.load("decoder_then_seq2seq", ["STORE='x'"], overlays=["gin/tiny.gin"]).value
    cross = of.stage("cross")
    moving = {path for path in cross.model.abstract() if "/cross_attention" in path}
    planned = plan.make(of, devices=1)
    assert not planned.problems
    shown = next(stage for stage in planned.stages if stage["name"] == "cross")
    assert shown["trainable_params"] == sum(cross.model.abstract()[path].size for path in moving) < shown["params"]


def test_a_decoder_becomes_an_encoder_and_back_with_its_mask_flipped():
    before, middle, fresh = handed("encoder_from_decoder", DECODER, ENCODER)
    assert {path.split("/")[0] for path in fresh} == {"mlm_head"}
    np.testing.assert_array_equal(sees(DECODER, before, "decoder"), CAUSAL)
    np.testing.assert_array_equal(sees(ENCODER, middle, "encoder"), OPEN)
    made = handoff.plan(shipped("decoder_from_encoder"), ENCODER.abstract(), DECODER.abstract())
    assert not made.problems and not made.fresh and all(path.startswith("mlm_head/") for path, _ in made.dropped)
    after = handoff.execute(made, middle.__getitem__, lambda path, array: array)
    assert after.keys() == before.keys()
    for path, value in before.items():
        np.testing.assert_array_equal(after[path], value)
    np.testing.assert_array_equal(sees(DECODER, after, "decoder"), CAUSAL)


def test_an_output_of_its_own_is_taken_or_left_by_word():
    free = decoder.Decoder(stack=LLAMA, vocabulary=31, tied=False)
    own = encoder.Encoder(stack=LLAMA, head=heads.MaskedLM(tied=False), vocabulary=31)
    before, after, _ = handed("encoder_from_decoder", free, own)
    np.testing.assert_array_equal(after["logits/kernel"], before["logits/kernel"])
    refused = handoff.plan(shipped("encoder_from_decoder"), free.abstract(), ENCODER.abstract()).problems
    assert any("logits/kernel" in line and "neither read nor dropped" in line for line in refused)
    _, left, _ = handed("encoder_from_decoder", free, ENCODER, drop=(r"logits/.*",))
    assert "logits/kernel" not in left


def test_the_shapes_of_gpt2_and_nemotron_are_decoders_of_their_parts(tmp_path):
    lines = [
        "from __gin__ import dynamic_registration", "from recipes import recipe", "LAYERS = 2", "WIDTH = 32", "HEADS = 4",
        "KV_HEADS = 2", "MLP = 64", "VOCABULARY = 40", "DTYPE = 'float32'", "BATCH = 2", "LENGTH = 8",
        "CAUSAL_STEPS = 3000", "STORE = 's'",
    ]  # fmt: skip
    found = {}
    for shape in ("gpt2", "llama", "nemotron"):
        included = [
            f"include 'gin/{name}.gin'" for name in (f"models/decoder_{shape}", "stages/training", "stages/causal")
        ]
        of = ["recipe.Recipe:", "  name = 'x'", "  stages = (@causal/recipe.Stage(),)"]
        (tmp_path / f"{shape}.gin").write_text("\n".join([*lines, *included, *of]))
        # GPT-2 has as many key heads as heads, so that the macro is of no use there.
        if shape == "gpt2":
            text = (tmp_path / "gpt2.gin").read_text().replace("KV_HEADS = 2\n", "")
            (tmp_path / "gpt2.gin").write_text(text)
        made = config.load(tmp_path / f"{shape}.gin").value
        assert not plan.make(made, devices=1).problems
        found[shape] = made.stages[0].model
    parts = {shape: set(model.abstract()) for shape, model in found.items()}
    assert {shape: "decoder/position_embedder/embedding" in paths for shape, paths in parts.items()} == {
        "gpt2": True, "llama": False, "nemotron": False,
    }  # fmt: skip
    assert {shape: "decoder/layers/mlp/wi_gate/kernel" in paths for shape, paths in parts.items()} == {
        "gpt2": False, "llama": True, "nemotron": False,
    }  # fmt: skip
    assert {shape: "logits/kernel" in paths for shape, paths in parts.items()} == {
        "gpt2": False, "llama": False, "nemotron": True,
    }  # fmt: skip
    biased = {
        shape: any(p.endswith("kernel") and p[:-6] + "bias" in paths for p in paths) for shape, paths in parts.items()
    }
    assert biased == {"gpt2": True, "llama": False, "nemotron": False}
    assert found["nemotron"].stack.activation == "relu2" and found["nemotron"].stack.groups == 2


def trained(resolved, workdir):
    """Runs a recipe to its end; every stage has done its steps and moved what it started from. Parameters by stage."""
    run.run(resolved, str(workdir), console=QUIET)
    found = {}
    for stage in resolved.value.stages:
        manifest = checkpoint.manifest(workdir / stage.name)
        assert (manifest["step"], manifest["skipped"]) == (stage.steps, 0)
        lines = [json.loads(line) for line in (workdir / stage.name / "metrics.jsonl").read_text().splitlines()]
        assert lines and all(np.isfinite(line["loss"]) for line in lines)
        if stage.start is not None:
            assert manifest["start"]["handoff"]["copied"] > 0
            assert manifest["params_digest"] != manifest["start"]["parent"]["params_digest"]
        root = workdir / stage.name / "checkpoints" / str(manifest["step"])
        found[stage.name] = {
            path: np.asarray(x) for path, x in checkpoint.read(root, checkpoint.abstract(root)).items()
        }
    return found


SHORT = ("CAUSAL_STEPS=4", "SAVE_STEPS=100")


def test_causal_lm_then_an_encoder_decoder_trains_and_what_is_frozen_stays(tiny, tmp_path):
    resolved = tiny(*SHORT, "ADAPTED_STEPS=3", name="decoder_then_seq2seq")
    found = trained(resolved, tmp_path)
    causal, cross, adapted = (found[name] for name in ("causal", "cross", "adapted"))
    for path, value in causal.items():
        np.testing.assert_array_equal(cross[path], value)
    np.testing.assert_array_equal(cross["encoder/final_norm/scale"], causal["decoder/final_norm/scale"])
    start = resolved.value.stage("cross").model.init(jax.random.key(0))
    moved = [path for path in cross if "/cross_attention/" in path and not np.array_equal(cross[path], start[path])]
    assert moved
    assert all(not np.array_equal(adapted[path], cross[path]) for path in cross if path.endswith("kernel"))


@pytest.mark.parametrize("name", ["decoder_then_encoder", "encoder_then_decoder"])
def test_the_other_families_train_on_from_what_they_take(tiny, tmp_path, name):
    resolved = tiny(*SHORT[name == "encoder_then_decoder" :], "FLIPPED_STEPS=3", name=name)
    first, last = trained(resolved, tmp_path).values()
    sides = ("decoder/", "encoder/") if name == "decoder_then_encoder" else ("encoder/", "decoder/")
    body = {path.replace(sides[0], sides[1], 1) for path in first if path.startswith(sides[0])}
    assert body == {path for path in last if path.startswith(sides[1])}
    assert not np.array_equal(last["token_embedder/embedding"], first["token_embedder/embedding"])


def test_a_causal_decoder_goes_on_as_a_prefix_lm(tiny, tmp_path):
    file = tmp_path / "causal_then_prefix.gin"
    file.write_text(
        "from __gin__ import dynamic_registration\nfrom recipes import recipe\nPREFIX_STEPS = 3\n"
        "include 'gin/recipes/causal_lm.gin'\ninclude 'gin/stages/prefix.gin'\nrecipe.Recipe:\n"
        "  name = 'causal_then_prefix'\n  stages = (@causal/recipe.Stage(), @prefix/recipe.Stage())\n"
    )
    resolved = tiny(*SHORT, name=str(file))
    params = trained(resolved, tmp_path / "run")["prefix"]
    causal, prefix = resolved.value.stages
    feed = prefix.data.feed(batch=8, seed=0)
    batch = {key: value for key, value in next(feed).items() if key != "part"}
    feed.close()
    opened = batch["decoder_prefix"]
    assert opened.any() and not opened.all() and "decoder_prefix" not in causal.data.spec(8)
    segments = batch["decoder_segments"]
    inside = (opened[:, :-1] * opened[:, 1:] > 0) & (segments[:, :-1] == segments[:, 1:])
    assert inside.any() and not batch["weights"][:, :-1][inside].any(), "what is read isn't learnt"
    closed = {key: value for key, value in batch.items() if key != "decoder_prefix"}
    read = jax.jit(lambda batch: prefix.model.apply(params, batch).hidden)
    moves = np.abs(np.asarray(read(batch) - read(closed))).max(axis=-1) > 1e-6
    assert moves[opened > 0].any() and not moves[~opened.any(axis=1)].any()
