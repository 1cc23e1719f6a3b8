"""Bad input: one line that names both sides and the mend, exit code 2, nothing written or lost."""

import json
import os
import pathlib
import shutil

import pytest

from recipes import cli


@pytest.fixture
def place(tmp_path, store, monkeypatch):
    """A folder with texts, a store and broken copies of it; the command runs there."""
    (tmp_path / "good.txt").write_text("one line\nand another\n")
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "bad.jsonl").write_text('{"text": "x"}\n{"tekst": "y"}\n')
    (tmp_path / "broken.jsonl").write_text('{"text": \n')
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n")
    (tmp_path / "vocabulary.model").write_bytes(b"no model")
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "empty_folder").mkdir()
    (tmp_path / "broken.gin").write_text("from __gin__ import dynamic_registration\nSTEPS = (1,\n")
    (tmp_path / "lost.gin").write_text("from __gin__ import dynamic_registration\nfrom models import nothing\n")
    (tmp_path / "nested.gin").write_text("include 'gin/models/nowhere.gin'\n")
    (tmp_path / "no_stages.gin").write_text(
        "from __gin__ import dynamic_registration\nfrom recipes import recipe\nrecipe.Recipe:\n  name = 'x'\n  stages = ()\n"
    )
    shutil.copytree(store, tmp_path / "other")
    card = json.loads((tmp_path / "other" / "vocabulary.json").read_text())
    (tmp_path / "other" / "vocabulary.json").write_text(json.dumps(card | {"fingerprint": "0" * 64}))
    shutil.copytree(store, tmp_path / "unfinished")
    for manifest in (tmp_path / "unfinished").glob("*/manifest.json"):
        manifest.unlink()
    shutil.copytree(store, tmp_path / "damaged")
    tokens = [file for file in (tmp_path / "damaged" / "aa" / "tokens").rglob("*") if file.is_file()]
    max(tokens, key=lambda file: file.stat().st_size).unlink()
    monkeypatch.chdir(tmp_path)
    return tmp_path


RUN = "run mlm_then_seq2seq --overlay gin/tiny.gin --workdir out --set VOCABULARY=384 --set STORE='{store}'"
PLAN = "plan mlm_then_seq2seq --overlay gin/tiny.gin --set VOCABULARY=384 --set STORE='{store}'"

MISTAKES = [
    # flags
    ("frobnicate", "invalid choice: 'frobnicate'"),
    ("run", "the following arguments are required: RECIPE, --workdir; see `baton run --help`"),
    ("vocab good.txt --out v --size 0", "0 is less than 1"),
    ("vocab good.txt --out v --size many", "invalid _count value: 'many'"),
    ("vocab good.txt --out v --size 500 --normalisation nfd", "invalid choice: 'nfd'"),
    (RUN + " --until mml", "recipe 'mlm_then_seq2seq' has no stage 'mml'; did you mean 'mlm'?"),
    (RUN + " --import no.such.module", "--import no.such.module"),
    # configs
    ("plan mlm_then_seq2sec", "no file 'mlm_then_seq2sec', none so named in gin/recipes; did you mean 'mlm_then_seq2seq'?"),
    ("plan mlm_then_seq2seq", 'STORE must be set: give --set "STORE=..."'),
    ("plan broken.gin", "broken.gin"),
    ("plan lost.gin", "lost.gin: No module named 'models.nothing'"),
    ("plan nested.gin", "nowhere.gin"),
    ("plan no_stages.gin", "recipe 'x' has no stages"),
    (PLAN + " --overlay nowhere.gin", "no file 'nowhere.gin'"),
    (PLAN + " --set MLM_STEP=4", "macro MLM_STEP is used by nothing; did you mean 'MLM_STEPS'?"),
    (PLAN + " --set mml/Stage.steps=4", "binding mml/recipe.Stage.steps is used by nothing; did you mean 'mlm'?"),
    (PLAN + " --set mlm/Stage.step=4", "Stage has no parameter 'step'; did you mean 'steps'?"),
    (PLAN + " --set BATCH=8.5", "batch = 8.5 is of type float; it takes int"),
    (PLAN + " --set BATCH=0", "batch = 0; it is at least 1"),
    (PLAN + " --set WIDTH=33", "width 33 is not a multiple of heads 2; change one of them or set head_dim"),
    (PLAN + " --set RATE=-1.0", "Linear has peak -1.0; a peak is a finite rate above 0"),
    (PLAN + " --set WARMUP=100", "Linear has 12 steps and a warm-up of 100"),
    (PLAN + " --set AdamW.b1=2.0", "AdamW has b1 2.0; it is a share kept, from 0 to below 1"),
    (PLAN + " --set mlm/objectives.MaskedLM.rate=1.5", "rate=1.5 is not between 0 and 1"),
    (PLAN + " --set mlm/objectives.MaskedLM.mask=0.5", "do not add up to 1"),
    (PLAN + " --set mlm/Stage.frozen=('encodr/.*',)", "frozen: pattern 'encodr/.*' matches no parameter; did you mean"),
    (PLAN + " --set mlm/Stage.frozen=('.*',)", "leaves no parameter to train; free some"),
    (PLAN + " --set mlm/Stage.frozen=('(',)", "is no regular expression"),
    # meshes
    (PLAN + " --devices 8 --set recipe.Mesh.tensor=3", "doesn't fit 8 devices: the sizes must multiply to 8"),
    (PLAN + " --devices 8 --set recipe.Mesh.tensor=8", "doesn't divide over mesh axis 'tensor' of 8 devices"),
    (PLAN + " --devices 8 --set BATCH=4", "batch 4 in 1 parts doesn't divide over 8 devices"),
    (PLAN + " --devices 8 --set Mesh.fsdp=2 --set recipe.Rules.mlp='fsdp' --set recipe.Recipe.rules=@recipe.Rules()", "both go to mesh axis 'fsdp'"),
    # attention
    (PLAN + " --set Stack.attention='splash'", "attention 'splash' takes lengths that are multiples of 128"),
    (RUN + " --set Stack.attention='splash' --set LENGTH=128", "is a kernel for TPUs and this program is for 'cpu'; set Stack.attention"),
    (PLAN + " --set Stack.attention='bucketed'", "is for a relative bias and positions is 'learned'; set attention = 'splash'"),
    # handoffs
    (PLAN + " --set seq2seq_from_encoder/Handoff.drop=()", "source parameter mlm_head/bias [384] is neither read nor dropped"),
    (PLAN + " --set seq2seq_from_encoder/Handoff.fresh=()", "is neither taken nor fresh; add it to take or fresh"),
    (PLAN + " --set frozen/stack.Stack.width=64 --set frozen/stack.Stack.layers=2", "stage 'frozen': handoff from 'mlm': target"),
    (PLAN + " --set continue/Handoff.source='frozn'", "starts from 'frozn', which is no earlier stage; did you mean 'frozen'?"),
    ("convert nowhere/mlm out/x --handoff continue", "nowhere/mlm holds no complete checkpoint"),
    ("convert empty_folder out/x --handoff continu", "empty_folder holds no complete checkpoint"),
    # corpora and vocabularies
    ("vocab nowhere.txt --out v --size 500", "'nowhere.txt' matches no file"),
    ("vocab a=nowhere.txt --out v --size 500", "nowhere.txt"),
    ("vocab a=good.txt a=empty.txt --out v --size 500", "two parts are named 'a'"),
    ("vocab empty.txt --out v --size 500", "empty.txt"),
    ("vocab good.txt --out v --size 5000", "v" ),
    ("vocab cldr:lots --out v --size 500", "cldr:lots names no number of documents"),
    ("store bad.jsonl --vocabulary bytes --out s --processes 1", "has no text under the key 'text' but tekst: name another key"),
    ("store broken.jsonl --vocabulary bytes --out s --processes 1", "is not JSON"),
    ("store latin.txt --vocabulary bytes --out s --processes 1", "latin.txt"),
    ("store good.txt --vocabulary nowhere.model --out s", "nowhere.model"),
    ("store good.txt --vocabulary vocabulary.model --out s", "vocabulary.model"),
    ("store good.txt --vocabulary tokenizer.json --out s", "tokenizer.json"),
    ("store good.txt --vocabulary bytes --out s --validation 1.5", "1.5"),
    # stores and data
    (RUN.replace("{store}", "nowhere"), "nowhere"),
    (RUN.replace("{store}", "empty_folder"), "empty_folder"),
    (RUN.replace("{store}", "other"), "vocabulary"),
    (RUN.replace("{store}", "unfinished"), "unfinished"),
    (RUN.replace("{store}", "damaged"), "damaged"),
    (RUN.replace("VOCABULARY=384", "VOCABULARY=300"), "384"),
    (RUN + " --set Blend.select=('aa','cc')", "cc"),
    (RUN + " --set Blend.rates=(('aa',0.0),)", "are not positive"),
    (RUN + " --set frozen/objectives.Denoise.kind='decoder'", "a model of kind 'encdec' can't learn from data of kind"),
    ("preview nowhere_at_all", "no SeqIO task or mixture is named 'nowhere_at_all'"),
    ("preview mlm_then_seq2seq.gin:mlm", "must be set"),
]  # fmt: skip


def snapshot(folder: pathlib.Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("line", "message"), MISTAKES, ids=[line.split(" --set STORE")[-1] for line, _ in MISTAKES])
def test_a_mistake_is_one_line_and_loses_nothing(line, message, place, store, capfd):
    words = [word.replace("{store}", store) for word in line.split(" ")]
    words = [word if "=" in word or "STORE" in word else word for word in words]
    before = snapshot(place)
    try:
        code = cli.main(words)
    except SystemExit as stop:
        code = stop.code
    printed = capfd.readouterr()
    said = [
        text for text in (printed.err + printed.out).splitlines() if text.startswith("baton: ") or "problem:" in text
    ]
    assert code == 2, printed
    assert said and any(message in text for text in said), (message, printed)
    assert "Traceback" not in printed.err
    after = snapshot(place)
    assert {name: after.get(name) for name in before} == before
    assert not os.path.exists(place / "out"), "a mistake found before anything is allocated makes no work directory"


def test_there_are_enough_of_them():
    assert len(MISTAKES) >= 40
