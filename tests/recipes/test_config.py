"""Gin only constructs: what is misspelt, unused or of the wrong type is refused with the nearest valid name."""

import dataclasses
import os
import pathlib
import subprocess
import sys

import pytest

from recipes import config, recipe

ROOT = pathlib.Path(__file__).parent.parent.parent
GOLDEN = ROOT / "tests" / "golden"
STORE = "STORE='stores/mine'"
SHIPPED = [path.relative_to(ROOT / "gin" / "recipes").with_suffix("").as_posix() for path in config.shipped()]


def load(*overrides, name="mlm_then_seq2seq", **options):
    return config.load(name, [STORE, *overrides], **options)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_recipes_resolve_to_their_golden_text(name):
    needed = "STORE = %gin.REQUIRED" in (ROOT / "gin" / "recipes" / f"{name}.gin").read_text()
    text = config.load(name, [STORE] if needed else []).text
    golden = GOLDEN / f"{name}.gin"
    if os.environ.get("BATON_UPDATE_GOLDEN"):
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(text)
    assert golden.exists() and text == golden.read_text(), (
        f"recipe {name} now resolves to another text; when that is meant, run BATON_UPDATE_GOLDEN=1 pytest {__file__} "
        "and commit the difference, which is what a reviewer reads"
    )


def test_the_resolved_text_is_itself_a_recipe(tmp_path):
    resolved = load()
    (tmp_path / "again.gin").write_text(resolved.text)
    again = config.load(tmp_path / "again.gin")
    assert again.value == resolved.value and again.hash == resolved.hash


def test_overrides_and_overlays_apply_in_order():
    assert load().value.stages[0].steps == 100000
    tiny = load(overlays=["gin/tiny.gin"]).value
    assert [stage.steps for stage in tiny.stages] == [12, 8, 6]
    assert load("MLM_STEPS=3", overlays=["gin/tiny.gin"]).value.stages[0].steps == 3
    assert load("mlm/Stage.steps=4").value.stages[0].steps == 4
    wide = load("frozen/stack.Stack.layers=3").value
    assert [wide.stages[0].model.stack.layers, wide.stages[1].model.encoder.layers] == [12, 3]


def test_an_override_by_module_names_what_only_an_overlay_imports():
    small = load("initial.Initial.embedding=0.3", overlays=["gin/small.gin"]).value
    assert small.stages[0].model.stack.init.embedding == 0.3
    assert load(overlays=["gin/small.gin"]).value.stages[0].model.stack.init.embedding != 0.3


def test_an_included_file_may_bind_what_only_some_recipes_use(tmp_path):
    shared = "from __gin__ import dynamic_registration\nfrom tasks import objectives\nSPARE = 1\n"
    (tmp_path / "shared.gin").write_text(shared + "objectives.CausalLM.mode = None\n")
    recipe_text = (ROOT / "gin" / "recipes" / "mlm_then_seq2seq.gin").read_text()
    including = recipe_text + f"\ninclude '{tmp_path / 'shared.gin'}'\n"
    (tmp_path / "including.gin").write_text(including)
    assert config.load(tmp_path / "including.gin", [STORE]).value == load().value
    (tmp_path / "own.gin").write_text(recipe_text + "\nSPARE = 1\n")
    with pytest.raises(recipe.Mistake, match="macro SPARE is used by nothing"):
        config.load(tmp_path / "own.gin", [STORE])
    (tmp_path / "shared.gin").write_text(shared + "mlmm/objectives.CausalLM.mode = None\n")
    with pytest.raises(recipe.Mistake, match="binding mlmm/objectives.CausalLM.mode is used by nothing"):
        config.load(tmp_path / "including.gin", [STORE])


def test_an_override_names_by_itself_a_class_that_an_included_file_imports():
    """In a process of its own: gin remembers every class that it has seen."""
    command = f"from recipes import config; print(config.load('mlm_then_seq2seq', [{STORE!r}, 'AdamW.eps=0.5']).text)"
    shown = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, cwd=ROOT)
    assert "AdamW.eps = 0.5" in shown.stdout, shown.stderr


def test_from_another_folder_included_files_are_found_without_a_complaint(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    assert config.load("mlm_then_seq2seq", overrides=["STORE='x'"]).value.stages
    assert not caplog.records


def test_nothing_is_left_in_gin():
    first = load("MLM_STEPS=3").value
    assert load().value.stages[0].steps != first.stages[0].steps


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("MLM_STEPZ=3", "macro MLM_STEPZ is used by nothing; did you mean 'MLM_STEPS'?"),
        ("frozen/Stage.frozn=()", "Stage has no parameter 'frozn'; did you mean 'frozen'?"),
        ("froze/Stage.steps=3", "binding froze/recipe.Stage.steps is used by nothing; did you mean 'frozen'?"),
        ("mlm/Stag.steps=3", "nothing is named 'Stag'; did you mean 'Stage'?"),
        ("BATCH='8'", "stages[0].batch = '8' is of type str; it takes int"),
        ("BATCH=True", "stages[0].batch = True is of type bool; it takes int"),
        ("STORE=5", "stages[0].data.store = 5 is of type int; it takes str"),
        ("mlm/Stage.frozen=(3,)", "it takes tuple[str, ...]"),
        ("RATE='fast'", "'fast'"),
        ("MLM_STEPS=0", "recipe 'mlm_then_seq2seq', stage 'mlm': steps = 0; it is at least 1"),
        ("mlm/Stage.accumulate=7", "batch 256 doesn't divide into accumulate = 7 equal parts"),
        ("WIDTH=7", "width 7 is not a multiple of heads 12; change one of them or set head_dim (in scope 'mlm')"),
        ("DTYPE='float8'", "dtype 'float8' is unknown; choose one of float32, bfloat16"),
        ("continue/Handoff.source='froze'", "stage 'unfrozen': starts from 'froze', which is no earlier stage; did you mean"),
        ("continue/Handoff.source='nowhere/mlm'", "starts from 'nowhere/mlm', where there is no stage; name WORKDIR/STAGE"),
        ("continue/Handoff.carry=('optstate',)", "carries 'optstate'; did you mean 'opt_state'?"),
        ("continue/Handoff.take=('a',)", "take has 'a'; each rule is a pair (target pattern, source template) or a Take"),
        ("recipe.Mesh.data=0", "each axis is a count of devices, at most one of them is -1"),
        ("mlm/Stage.name='a/b'", "a name has letters, digits, '_', '-' and '.' alone"),
        ("mlm/Stage.name='frozen'", "an earlier stage has the same name"),
        ("STORE='x", "Unable to parse value"),
    ],
)  # fmt: skip
def test_a_wrong_binding_is_one_clear_line(override, message):
    with pytest.raises(recipe.Mistake) as caught:
        load(override)
    assert message in str(caught.value)
    assert "mlm_then_seq2seq" in str(caught.value) and "\n" not in str(caught.value)


def test_a_macro_that_must_be_set_is_named():
    with pytest.raises(recipe.Mistake, match='STORE must be set: give --set "STORE=..."'):
        config.load("mlm_then_seq2seq")


def test_a_recipe_that_is_not_there_has_a_nearest_name():
    with pytest.raises(recipe.Mistake, match="did you mean 'mlm_then_seq2seq'"):
        config.load("mlm_then_seq2seqq.gin")


def test_recipes_are_values():
    stage = load().value.stages[0]
    assert dataclasses.replace(stage, steps=5).steps == 5
    with pytest.raises(dataclasses.FrozenInstanceError):
        stage.steps = 5
