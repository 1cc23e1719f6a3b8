"""Hugging Face's ELECTRA: a discriminator and its generator, of odd sizes and narrow tables, give the logits they gave."""

import numpy as np
import pytest

from models import encoder, heads
from recipes import checkpoint, cli
from recipes.exchange import imports

TABLES = {"vocab_size": 61, "embedding_size": 10, "type_vocab_size": 3, "max_position_embeddings": 19}
SIZES = {
    "ElectraForPreTraining": {"hidden_size": 24, "num_attention_heads": 4, "intermediate_size": 40, "num_hidden_layers": 3},
    "ElectraForMaskedLM": {"hidden_size": 15, "num_attention_heads": 3, "intermediate_size": 22, "num_hidden_layers": 2},
}  # fmt: skip


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.filterwarnings("ignore")
def test_logits_are_equal_to_1e_5(tmp_path, name):
    torch = pytest.importorskip("torch", reason="parity is against transformers, which needs torch")
    transformers = pytest.importorskip("transformers", reason="parity is against transformers")
    sizes = SIZES[name]
    theirs = getattr(transformers, name)(transformers.ElectraConfig(**TABLES, **sizes)).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():  # spread out, biases and norms too, so that no part is negligible
        for parameter in theirs.parameters():
            parameter.add_(torch.empty(parameter.shape).normal_(generator=generator) * 0.2)
    theirs.save_pretrained(tmp_path / "published")
    assert cli.main(["convert", f"hf:{tmp_path / 'published'}", str(tmp_path / "run" / "imported")]) == 0
    model = imports.open_(str(tmp_path / "published")).model
    detects = name == "ElectraForPreTraining"
    assert isinstance(model, encoder.Encoder)
    assert isinstance(model.head, heads.ReplacedToken if detects else heads.MaskedLM)
    assert (model.stack.embedding_width, model.stack.width) == (10, sizes["hidden_size"])

    rng = np.random.default_rng(0)
    ids, types = rng.integers(1, 61, (4, 19)), rng.integers(0, 3, (4, 19))
    real = (np.arange(19)[None, :] < np.array([19, 12, 7, 1])[:, None]).astype(np.int32)
    with torch.no_grad():
        tensors = {"input_ids": ids, "token_type_ids": types, "attention_mask": real}
        expected = theirs(**{key: torch.tensor(value).long() for key, value in tensors.items()}).logits.numpy()
    root = tmp_path / "run" / "imported" / "checkpoints" / "0"
    params = checkpoint.read(root, checkpoint.abstract(root))
    batch = {"encoder_inputs": ids.astype(np.int32), "encoder_segments": real, "encoder_types": types.astype(np.int32)}
    batch["encoder_positions"] = np.broadcast_to(np.arange(19, dtype=np.int32), ids.shape)
    output = model.apply(params, batch)
    ours = output.logits if detects else output.readout.logits(output.hidden)
    assert ours.shape == expected.shape == ((4, 19) if detects else (4, 19, 61))
    difference, used = np.abs(np.asarray(ours) - expected), real > 0
    assert difference[used].max() < 1e-5 and np.abs(expected[used]).max() > 0.3
    assert len(np.unique(np.round(expected[used], 3))) > 20
