"""Slices that aren't at hand: names, what a program's text tells, and the TPU compiler where it is installed."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from recipes import chips, cli, compiled, config, counts, fit, recipe, roofline, sliceplan, topology

needs_compiler = pytest.mark.skipif(
    not topology.available(), reason=f"needs libtpu: pip install libtpu=={topology.LIBTPU}"
)
STORE = "STORE='stores/none'"


def scan(layers, width=64):
    def loss(x, kernels):
        return jax.lax.scan(lambda x, kernel: (jnp.tanh(x @ kernel), None), x, kernels)[0].sum()

    shape = jax.ShapeDtypeStruct((width, width), jnp.float32)
    kernels = jax.ShapeDtypeStruct((layers, width, width), jnp.float32)
    return jax.jit(jax.grad(loss, argnums=1)).lower(shape, kernels).compile()


def test_names_of_slices():
    two = topology.parse("2xv5e:16x16")
    assert (two.slices, two.chips, two.devices, two.generation) == (2, 512, 512, "v5e")
    assert topology.parse("tpu7x:2x2x1").devices == 2 * topology.parse("tpu7x:2x2x1").chips
    assert two.sizes(recipe.Mesh(data=1, fsdp=-1)) == recipe.Mesh(data=2, fsdp=256)
    for name, message in (("v5e", "write it as"), ("v5x:2x2", "did you mean"), ("v5e:0x2", "no chips")):
        with pytest.raises(recipe.Mistake, match=message):
            topology.parse(name)


def test_loops_count_as_often_as_they_run_though_xla_counts_them_once():
    four, eight = scan(4), scan(8)
    once = [program.cost_analysis()["flops"] for program in (four, eight)]
    assert once[0] == pytest.approx(once[1], rel=0.05), "XLA counts a loop's body once"
    # The gradient of the first layer's input isn't asked for, but its loop is the same as the others'.
    found = [counts.count(program.as_text()).flops for program in (four, eight)]
    assert found == [4 * 3 * 2 * 64**3, 8 * 3 * 2 * 64**3]
    assert counts.count(eight.as_text(), once=True).flops == 3 * 2 * 64**3


def test_the_bound_is_the_longest_side_and_never_above_the_peak():
    chip = chips.CHIPS["v5e"]
    found = counts.Counts(flops=197e12, bytes=819e9 * 2, ici=0.0)
    bound = roofline.estimate(found, chip, model_flops=8 * 100e12, devices=8)
    assert (bound.bound, bound.seconds) == ("hbm", 2.0) and bound.mfu == pytest.approx(100 / 197 / 2)
    hidden = dataclasses.replace(found, bytes=0.0, flops=0.0, unknown=["a kernel"])
    assert roofline.estimate(hidden, chip, model_flops=8 * 100e12, devices=8).mfu == pytest.approx(1.0)


def test_what_is_kept_goes_by_the_effort_and_not_by_rates(monkeypatch):
    monkeypatch.setattr(topology, "version", lambda: "any")
    texts = [
        f"dense<{rate}> : tensor<f32>, dense<{count}> : tensor<i32>"
        for rate, count in (("3.000000e-04", 12), ("0.1", 12), ("0.1", 24), ("1.000000e+00", 12), ("0.000000e+00", 12))
    ]
    first, rate, count, one, zero = (compiled._file(text, topology.parse("v5e:2x4")) for text in texts)
    assert first == rate and len({first, count, one, zero}) == 4
    jax.config.update("jax_optimization_level", "O1")
    try:
        assert compiled._file(texts[0], topology.parse("v5e:2x4")) != first
    finally:
        jax.config.update("jax_optimization_level", "UNKNOWN")


def test_settings_are_pruned_by_what_they_must_hold():
    of = config.load("t5_1_1_xxl", [STORE]).value
    small = fit.candidates(of, of.stages[0], topology.parse("v5e:2x2"))
    large = fit.candidates(of, of.stages[0], topology.parse("v5e:16x16"))
    assert not small and large and all(one.setting.mesh.fsdp * one.setting.mesh.tensor > 8 for one in large)
    assert "parameters, optimizer and gradients alone take 41.49 GiB a device of 15.75, 25.74 too many" in fit.refusal(
        of, of.stages[0], topology.parse("v5e:2x2")
    )


def test_the_fastest_compiled_of_those_that_fit_is_proposed(monkeypatch):
    """With a compiler that finds what `seconds` says, by the order in which it is asked; None doesn't fit."""
    of, slice_ = config.load("t5_1_1_xxl", [STORE]).value, topology.parse("v5e:16x16")
    stage = of.stages[0]
    ranked = fit.candidates(of, stage, slice_)
    need = {one.setting: one.need for one in ranked}

    def search(*seconds):
        asked, left = [], list(seconds)

        def measure(of, stage, topology):
            del topology
            (remat,) = {side.remat for side in stage.model.stacks.values()}
            asked.append(fit.Setting(remat=remat, accumulate=stage.accumulate, mesh=of.mesh))
            took = left.pop(0)
            return {"fits": took is not None, "step_seconds": took}

        monkeypatch.setattr(compiled, "measure", measure)
        return fit.search(of, stage, slice_)[0], asked

    own = fit.Setting(remat="full", accumulate=1, mesh=recipe.Mesh(data=1, fsdp=256))
    best, asked = search(5.0, None, 4.0, 3.0, 6.0, 3.5)
    assert best == asked[3] and asked[0] == own and len(asked) == len(set(asked)) == fit.COMPILES
    assert asked[1] == ranked[0].setting, "then the fastest estimate"
    assert all(need[one] < need[asked[1]] for one in asked[2:]), "what holds more than one that didn't fit is left out"
    fast = min(one.least for one in ranked)
    assert search(fast)[1] == [own], "no estimate is below it"
    assert search(*[None] * fit.COMPILES)[0] is None


def test_a_problem_that_no_setting_mends_ends_the_search(monkeypatch, capsys):
    monkeypatch.setattr(fit, "search", lambda *_: pytest.fail("searched"))
    words = ["t5_1_1_base", "--topology", "v5e:2x2", "--fit"]
    sets = [STORE, "LENGTH=100", "encoder/stack.Stack.attention='bucketed'"]
    assert cli.main(["plan", *words, *(word for one in sets for word in ("--set", one))]) == 2
    assert "100" in capsys.readouterr().out.split("problem: ")[1]


@pytest.mark.parametrize("json", [[], ["--json"]])
def test_a_mesh_that_does_not_fit_the_slice_is_no_end_of_the_search(monkeypatch, capsys, json):
    best = fit.Setting(remat="full", accumulate=1, mesh=recipe.Mesh(data=4))
    monkeypatch.setattr(fit, "search", lambda of, stage, *_: (best, {"name": stage.name, "fits": True, "short": None}))
    monkeypatch.setattr(sliceplan, "lines", lambda *_: [])
    sets = [STORE, "Mesh.data=3", "Mesh.fsdp=7"]
    words = ["t5_1_1_base", "--topology", "v5e:2x2", "--fit", *json, *(word for one in sets for word in ("--set", one))]
    assert cli.main(["plan", *words]) == 0
    found = capsys.readouterr().out
    assert '"fits": true' in found if json else "proposed --set" in found
    of = config.load("t5_1_1_base", sets).value
    assert fit.candidates(of, of.stages[0], topology.parse("v5e:2x2"))


def test_without_the_compiler_the_mend_is_named(monkeypatch):
    monkeypatch.setattr(topology, "available", lambda: False)
    with pytest.raises(recipe.Mistake, match="pip install libtpu=="):
        topology.describe(topology.parse("v5e:4x8"))


@needs_compiler
def test_a_program_that_is_too_large_is_refused_with_the_shortfall():
    sharding = jax.sharding.SingleDeviceSharding(topology.describe(topology.parse("v5e:2x2"))[0])
    shape = jax.ShapeDtypeStruct((5, 1 << 30), jnp.float32, sharding=sharding)
    with pytest.raises(Exception) as caught:
        jax.jit(lambda x: x + 1).lower(shape).compile()
    found = compiled.shortfall(str(caught.value))
    assert found is not None and found["limit"] == pytest.approx(15.75 * chips.GIB)
    assert found["over"] > 20 * chips.GIB and compiled.shortfall("another error") is None


@needs_compiler
@pytest.mark.slow
def test_a_frozen_encoder_has_no_backward_pass_and_the_second_call_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv(compiled.CACHE, str(tmp_path))
    of = config.load("mlm_then_seq2seq", [STORE, "VOCABULARY=384"], overlays=["gin/tiny.gin"]).value
    found = {one["name"]: one for one in sliceplan.of_stages(of, [topology.parse("v5e:2x2")])}
    assert not sliceplan.problems(of, list(found.values()))
    assert found["frozen"]["program_flops"] < 0.8 * found["unfrozen"]["program_flops"]
    assert found["frozen"]["bytes"]["opt_state"] < found["unfrozen"]["bytes"]["opt_state"]
    assert all(0 < one["mfu"] <= 1 and one["step_seconds"] > 0 for one in found.values())
    monkeypatch.setattr(compiled, "_compile", lambda *_: pytest.fail("compiled again"))
    assert sliceplan.of_stages(of, [topology.parse("v5e:2x2")]) == list(found.values())


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("name", ["v4:2x2x1", "v5e:2x4", "v5p:2x2x1", "v6e:2x4", "tpu7x:2x2x1"])
def test_every_generation_is_planned(name, tmp_path, monkeypatch):
    of = config.load("mlm_then_seq2seq", [STORE, "VOCABULARY=384"], overlays=["gin/tiny.gin"]).value
    for home in ("first", "second"):  # the second isn't read from what JAX keeps of the first, which it can't
        monkeypatch.setenv(compiled.CACHE, str(tmp_path / home))
        one = compiled.measure(of, of.stages[0], topology.parse(name))
    assert one["fits"] and one["hbm_traffic"] > 0 and one["collective_bytes"] and 0 < one["mfu"] <= 1
    assert any("SparseCores" in line for line in one["uncounted"]) == name.startswith(("v5p", "tpu7x"))


@needs_compiler
@pytest.mark.slow
def test_t5_base_stays_small_and_xxl_is_refused_on_four_chips():
    sets = [STORE, "BATCH=128", "Mesh.data=-1", "encoder/stack.Stack.attention='bucketed'"]
    base = config.load("t5_1_1_base", sets).value
    (one,) = sliceplan.of_stages(base, [topology.parse("v5e:2x4")])
    assert one["fits"] and one["hbm_gib"] <= 4.0
    xxl = config.load("t5_1_1_xxl", [STORE, "BATCH=64"])
    assert any("too few" in line for line in sliceplan.fits(xxl, "v5e:2x2"))
