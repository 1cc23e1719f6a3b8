"""Hugging Face models of odd sizes through import and export: the same logits on both sides, and nothing guessed."""

import json

import numpy as np
import pytest

from models import decoder, stack
from models.families import known, rules
from recipes import checkpoint, cli
from recipes.exchange import imports, parity, tensors

SMALL = {"vocab_size": 61, "num_hidden_layers": 3, "hidden_size": 24, "num_attention_heads": 4, "intermediate_size": 40}
T5 = {"vocab_size": 61, "d_model": 24, "d_kv": 10, "d_ff": 40, "num_layers": 2, "num_decoder_layers": 3, "num_heads": 4}
T5 |= {"relative_attention_num_buckets": 8, "relative_attention_max_distance": 12, "decoder_start_token_id": 0}
GPT2 = {"vocab_size": 61, "n_embd": 24, "n_layer": 3, "n_head": 3, "n_inner": 40, "n_positions": 32}
GPT2 |= {"bos_token_id": 1, "eos_token_id": 1}
BART = {"vocab_size": 61, "d_model": 24, "encoder_layers": 2, "decoder_layers": 3, "max_position_embeddings": 32}
BART |= {"encoder_attention_heads": 4, "decoder_attention_heads": 3, "encoder_ffn_dim": 40, "decoder_ffn_dim": 36}
MODERN = {"local_attention": 6, "max_position_embeddings": 32, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
MODERN |= {"cls_token_id": 1, "sep_token_id": 2, "num_hidden_layers": 4}
LLAMA3 = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LLAMA3 |= {"original_max_position_embeddings": 16}
MODELS = {
    "t5": ("T5ForConditionalGeneration", "T5Config", T5 | {"feed_forward_proj": "relu"}),
    "t5_1_1": ("T5ForConditionalGeneration", "T5Config", T5 | {"feed_forward_proj": "gated-gelu", "untied": True}),
    "t5_encoder": ("T5EncoderModel", "T5Config", T5),
    "mt5": ("MT5ForConditionalGeneration", "MT5Config", T5 | {"untied": True}),
    "umt5": ("UMT5ForConditionalGeneration", "UMT5Config", T5),
    "bert": ("BertForMaskedLM", "BertConfig", SMALL | {"max_position_embeddings": 32}),
    "bert_free": ("BertForMaskedLM", "BertConfig", SMALL | {"tie_word_embeddings": False}),
    "bert_bare": ("BertModel", "BertConfig", SMALL),
    "roberta": ("RobertaForMaskedLM", "RobertaConfig", SMALL | {"max_position_embeddings": 34}),
    "xlm-roberta": ("XLMRobertaForMaskedLM", "XLMRobertaConfig", SMALL | {"hidden_act": "relu"}),
    "electra": ("ElectraForPreTraining", "ElectraConfig", SMALL | {"embedding_size": 10}),
    "electra_generator": ("ElectraForMaskedLM", "ElectraConfig", SMALL | {"embedding_size": 10}),
    "bart": ("BartForConditionalGeneration", "BartConfig", BART),
    "mbart": ("MBartForConditionalGeneration", "MBartConfig", BART | {"scale_embedding": True}),
    "modernbert": ("ModernBertForMaskedLM", "ModernBertConfig", SMALL | MODERN),
    "gpt2": ("GPT2LMHeadModel", "GPT2Config", GPT2),
    "gpt2_free": ("GPT2LMHeadModel", "GPT2Config", GPT2 | {"tie_word_embeddings": False}),
    "llama": ("LlamaForCausalLM", "LlamaConfig", SMALL | {"num_key_value_heads": 2, "head_dim": 10}),
    "llama3": ("LlamaForCausalLM", "LlamaConfig", SMALL | {"rope_parameters": LLAMA3, "tie_word_embeddings": True}),
}


@pytest.fixture
def published(tmp_path):
    """(name) -> the directory of a random transformers model, spread out so that no part is negligible."""
    torch = pytest.importorskip("torch", reason="parity is against transformers, which needs torch")
    transformers = pytest.importorskip("transformers", reason="parity is against transformers")

    def made(name, shard="5GB"):
        of, config, options = MODELS[name]
        free = options.get("untied", False)
        options = {key: value for key, value in options.items() if key != "untied"}
        if free:
            options["tie_word_embeddings"] = False
        model = getattr(transformers, of)(getattr(transformers, config)(**options))
        if free:  # transformers 5 ties T5 by configuration, and unties it when it reads a file with both
            model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.clone())
            model.config.tie_word_embeddings = False
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.empty(parameter.shape).normal_(generator=generator) * 0.1)
        folder = tmp_path / "published"
        if free:
            model.all_tied_weights_keys = {}
        model.save_pretrained(folder, max_shard_size=shard)
        return folder

    return made


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.filterwarnings("ignore")
def test_parity_in_both_directions(published, tmp_path, capfd, name):
    folder, stage, again = published(name), tmp_path / "run" / "imported", tmp_path / "again"
    assert cli.main(["convert", f"hf:{folder}", str(stage)]) == 0
    source = imports.open_(str(folder))
    worst, largest = parity.logits(source, str(stage))
    assert worst < 1e-4 and largest > 0.1
    assert checkpoint.manifest(stage)["start"]["origin"] == "import"
    assert cli.main(["convert", str(stage), f"hf:{again}"]) == 0
    assert "parity: largest difference" in capfd.readouterr().out
    exported = imports.open_(str(again))
    assert exported.kind == source.kind and known.difference(source.model, exported.model) is None
    assert parity.logits(exported, str(stage))[0] < 1e-4
    assert _loading(name, again) == (set(), set())
    for tensor in source.aliases:
        if tensor in exported.aliases and tensor not in source.map.unread:
            np.testing.assert_array_equal(source.read(tensor), exported.read(tensor))


def _loading(name, folder):
    import transformers

    _, found = getattr(transformers, MODELS[name][0]).from_pretrained(folder, output_loading_info=True)
    # The pooler is of no use to a masked language model, so none is kept.
    missing = {key for key in found["missing_keys"] if "pooler" not in key}
    return missing, set(found["unexpected_keys"])


@pytest.mark.filterwarnings("ignore")
def test_shards_are_read_and_written(published, tmp_path):
    folder = published("llama", shard="20KB")
    assert (folder / tensors.INDEX).is_file()
    source = imports.open_(str(folder))
    shapes = {name: source.reader.shapes[name] for name in source.aliases}
    (tmp_path / "out").mkdir()
    writer = tensors.Writer(str(tmp_path / "out"), shapes, "bfloat16", 4000)
    for name in shapes:
        writer.put(name, source.read(name))
    again = tensors.Reader(str(tmp_path / "out"))
    assert len(again.files) > 2 and again.shapes == shapes
    for name in shapes:
        np.testing.assert_allclose(again.read(name).astype(np.float32), source.read(name), rtol=2**-8)


def test_names_are_total_both_ways_without_torch(tmp_path):
    """Every parameter from made-up tensors and back; one tensor too few, too many or of another shape is refused."""
    config = GPT2 | {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}
    source = _made(tmp_path / "made", config)
    leaves = source.model.abstract()
    for bundle in source.bundles:
        values = rules.ours(bundle, leaves, source.read)
        for name, tensor in rules.theirs(bundle, values):
            np.testing.assert_array_equal(tensor, source.read(name))
    there = {name: source.reader.shapes[name] for name in source.aliases}
    first = next(iter(there))
    for wrong, message in (
        ({name: shape for name, shape in there.items() if name != first}, "has no tensor"),
        (there | {"extra": (1,)}, "no place for"),
        (there | {first: (1, 2)}, "asks for"),
    ):
        with pytest.raises(ValueError, match=message):
            rules.check(source.map, source.bundles, wrong, "x")


def _made(folder, config):
    """A directory of random tensors for a configuration, opened."""
    _, model = known.read(config, "x", lambda name: False, lambda a, b: False)
    made = rules.bundles(known.names(model, config["model_type"]), model.abstract())
    shapes = {name: shape for bundle in made for name, shape in bundle.tensors.items()}
    folder.mkdir()
    writer, rng = tensors.Writer(str(folder), shapes, "float32", 10**9), np.random.default_rng(0)
    for name, shape in shapes.items():
        writer.put(name, rng.normal(size=shape).astype(np.float32))
    (folder / "config.json").write_text(json.dumps(config))
    return imports.open_(str(folder))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "bloom"}, "model_type = 'bloom' is not supported"),
        ({"activation_function": "mish"}, "activation_function = 'mish' is not supported"),
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx = True is not supported"),
        ({"sparkle": 3}, "option sparkle = 3 is unknown"),
        ({"architectures": ["GPT2DoubleHeadsModel"]}, "GPT2DoubleHeadsModel"),
    ],
)
def test_what_is_not_supported_is_named(change, message):
    config = GPT2 | {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]} | change
    with pytest.raises(ValueError, match=message):
        known.read(config, "x", lambda name: False, lambda a, b: False)


def test_rope_scaling_that_is_not_supported_is_named():
    config = SMALL | {"model_type": "llama", "rope_scaling": {"type": "yarn", "factor": 4.0}}
    with pytest.raises(ValueError, match="rope_type = 'yarn' is not supported"):
        known.read(config, "x", lambda name: False, lambda a, b: False)


def test_a_model_of_no_family_is_refused_with_the_reasons():
    odd = decoder.Decoder(stack=stack.Stack(layers=1, width=8, heads=2, mlp=8, positions="none"), vocabulary=9)
    with pytest.raises(ValueError, match="gpt2 .*stack.positions would be 'learned'.*llama"):
        known.write(odd)


def test_an_import_leaves_what_is_there_alone(tmp_path, capsys):
    config = GPT2 | {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}
    _made(tmp_path / "made", config)
    words = ["convert", f"hf:{tmp_path / 'made'}", str(tmp_path / "run" / "a"), "--dry-run"]
    assert cli.main(words) == 0 and not (tmp_path / "run").exists()
    assert cli.main(["convert", f"hf:{tmp_path / 'nothing'}", str(tmp_path / "b")]) == 2
    assert "is no directory" in capsys.readouterr().err
