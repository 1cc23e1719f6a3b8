"""Fine-tuning beside Hugging Face's Trainer: part-of-speech tags, the same shape, the same random start, the same rows.

    python -m benchmarks.finetune WORKDIR/STAGE --tasks ../shared/data/tasks [--json FILE]

Three ways, each with several seeds (random values, order of the rows, dropout): our fine-tuning stage from random
values, the same from the trained stage, and transformers' Trainer from the random values. The stage must hold a
pre-norm encoder with learned positions; the peer is RobertaPreLayerNorm without its norm on the embeddings. Accuracy is
of first sub-words, on English validation sentences. AdamW, linear decay with warm-up, clipping at 1 on both sides.
"""

import argparse
import dataclasses
import json
import pathlib
import statistics
import tempfile
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import rich.console

from recipes import config, finetune, recipe, run, spell, state, trained
from tasks import quiet


def main() -> None:
    """Run the three, print mean and deviation, write --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", help="WORKDIR/STAGE of a trained encoder")
    parser.add_argument("--tasks", required=True, help="a folder laid out as docs/downstream.md says")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", help="also write the figures to this file")
    given = parser.parse_args()
    quiet.load("seqio")
    start = trained.read(given.stage)
    settings = {
        "VOCABULARY": repr(start.vocabulary), "TASKS": repr(given.tasks), "LENGTH": given.length,
        "STEPS": given.steps, "BATCH": given.batch, "RATES": f"({given.rate},)", "SEEDS": given.seeds,
        "EVERY": given.steps, "PATIENCE": None, "WARMUP": given.steps // 6,
    }  # fmt: skip
    overrides = [f"{name}={value}" for name, value in settings.items()]
    task = config.load("udpos", overrides, of=finetune.Task, folder="tasks").value
    found = {
        name: [] for name in ("Baton, random start", "Baton, trained start", "transformers, the same random start")
    }
    for seed in range(given.seeds):
        (stage,) = finetune.stages(task, start, [(given.rate, seed)])
        stage = dataclasses.replace(stage, name="tuned", best=None, evaluate=stage.evaluate[:1])
        scratch = dataclasses.replace(stage, start=None)
        found["Baton, random start"].append(_ours(scratch))
        found["Baton, trained start"].append(_ours(stage))
        found["transformers, the same random start"].append(_theirs(scratch, given))
        print({name: [f"{value:.4f}" for value in values] for name, values in found.items()}, flush=True)
    for name, values in found.items():
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        print(f"{name:40} {statistics.fmean(values):.4f} ± {spread:.4f} (n = {len(values)})")
    if given.json:
        pathlib.Path(given.json).write_text(json.dumps({"settings": vars(given), "accuracy": found}, indent=1) + "\n")


def _ours(stage: recipe.Stage) -> float:
    """Validation accuracy after a stage, run as any other."""
    resolved = config.parse(spell.spell(recipe.Recipe(name="tuned", stages=(stage,))), "benchmark")
    with tempfile.TemporaryDirectory() as folder:
        done = run.run(resolved, folder, console=rich.console.Console(quiet=True))
    return done["tuned"]["scores"]["dev/accuracy"]


def _theirs(stage: recipe.Stage, given: argparse.Namespace) -> float:
    """Validation accuracy after transformers' Trainer, from the values that the stage starts from."""
    import torch  # pyright: ignore[reportMissingImports]  the peer is installed by hand
    import transformers

    from recipes import mesh

    layout = state.layout(stage, recipe.Rules(), mesh.build(recipe.Mesh()))
    start = {path: np.asarray(value) for path, value in state.initial(stage, layout, layout.leaves).items()}
    model = _peer(stage.model, start)
    train, dev = _rows(stage.data), _rows(dataclasses.replace(stage.data, split="validation"))
    with tempfile.TemporaryDirectory() as folder:
        options = transformers.TrainingArguments(
            output_dir=folder, max_steps=given.steps, per_device_train_batch_size=given.batch,
            per_device_eval_batch_size=64, learning_rate=given.rate, lr_scheduler_type="linear",
            warmup_steps=given.steps // 6, weight_decay=0.01, adam_beta1=0.9, adam_beta2=0.98, adam_epsilon=1e-8,
            max_grad_norm=1.0, seed=stage.seed,
            report_to=[], save_strategy="no", logging_strategy="no", disable_tqdm=True, use_cpu=True,
        )  # fmt: skip
        trainer = transformers.Trainer(model=model, args=options, train_dataset=train)
        trainer.train()
        logits = trainer.predict(dev).predictions  # pyright: ignore[reportArgumentType]  a list serves
    labels = np.stack([np.asarray(row["labels"]) for row in dev])
    there = labels != -100
    assert isinstance(model, torch.nn.Module)
    return float((np.asarray(logits).argmax(-1) == labels)[there].mean())


def _rows(data: Any) -> list[dict[str, Any]]:
    """Every example once, as the Trainer takes them."""
    import torch  # pyright: ignore[reportMissingImports]  the peer is installed by hand

    found = []
    for batch in data.once(256):
        labels = np.where(batch["weights"] > 0, batch["targets"], -100)
        for row in np.flatnonzero(batch["encoder_segments"].any(axis=1)):
            found.append(
                {
                    "input_ids": torch.tensor(batch["encoder_inputs"][row]).long(),
                    "attention_mask": torch.tensor(batch["encoder_segments"][row] > 0).long(),
                    "labels": torch.tensor(labels[row]).long(),
                }
            )
    return found


def _peer(model: Any, params: Mapping[str, np.ndarray]) -> Any:
    """RobertaPreLayerNorm with our values."""
    import torch  # pyright: ignore[reportMissingImports]  the peer is installed by hand
    import transformers

    stack, classes = model.stack, model.head.classes
    peer = transformers.RobertaPreLayerNormForTokenClassification(
        transformers.RobertaPreLayerNormConfig(
            vocab_size=model.vocabulary, hidden_size=stack.width, num_hidden_layers=stack.layers,
            num_attention_heads=stack.heads, intermediate_size=stack.mlp, hidden_act=stack.activation,
            hidden_dropout_prob=stack.dropout, attention_probs_dropout_prob=0.0, classifier_dropout=model.head.dropout,
            max_position_embeddings=stack.max_positions + 1, type_vocab_size=1, pad_token_id=0,
            layer_norm_eps=stack.norm_eps, id2label=dict(enumerate(map(str, range(classes)))),
        )
    )  # fmt: skip
    body = peer.roberta_prelayernorm
    body.embeddings.LayerNorm = torch.nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
    body.embeddings.token_type_embeddings.weight.requires_grad_(False)
    names = {
        "self_attention_norm": "attention.LayerNorm",
        "self_attention/query": "attention.self.query",
        "self_attention/key": "attention.self.key",
        "self_attention/value": "attention.self.value",
        "self_attention/out": "attention.output.dense",
        "mlp_norm": "intermediate.LayerNorm",
        "mlp/wi": "intermediate.dense",
        "mlp/wo": "output.dense",
    }
    theirs = dict(peer.state_dict())
    made: dict[str, np.ndarray] = {
        "roberta_prelayernorm.embeddings.word_embeddings.weight": params["token_embedder/embedding"],
        "roberta_prelayernorm.embeddings.token_type_embeddings.weight": np.zeros((1, stack.width), np.float32),
        # The first row of a RoBERTa's table is for padding.
        "roberta_prelayernorm.embeddings.position_embeddings.weight": np.pad(
            params["encoder/position_embedder/embedding"], ((1, 0), (0, 0))
        ),
        "roberta_prelayernorm.LayerNorm.weight": params["encoder/final_norm/scale"],
        "roberta_prelayernorm.LayerNorm.bias": params["encoder/final_norm/bias"],
        "classifier.weight": params["token_head/out/kernel"].T,
        "classifier.bias": params["token_head/out/bias"],
    }
    for ours, name in names.items():
        for leaf, kind in (("kernel", "weight"), ("scale", "weight"), ("bias", "bias")):
            if f"encoder/layers/{ours}/{leaf}" in params:
                for layer, value in enumerate(params[f"encoder/layers/{ours}/{leaf}"]):
                    key = f"roberta_prelayernorm.encoder.layer.{layer}.{name}.{kind}"
                    shape = tuple(theirs[key].shape)
                    made[key] = value.reshape(shape[::-1]).T if leaf == "kernel" else value.reshape(shape)
    missing = set(theirs) - set(made) - {name for name in theirs if name.endswith(("position_ids", "token_type_ids"))}
    assert not missing, missing
    peer.load_state_dict({name: torch.tensor(np.array(value)) for name, value in made.items()}, strict=False)
    _check(peer, model, params)
    return peer


def _check(peer: Any, model: Any, params: Mapping[str, np.ndarray]) -> None:
    """Both give the same logits before training."""
    import torch  # pyright: ignore[reportMissingImports]  the peer is installed by hand

    ids = np.random.default_rng(0).integers(3, model.vocabulary, (2, 16), dtype=np.int32)
    places = np.broadcast_to(np.arange(16, dtype=np.int32), ids.shape)
    batch = {"encoder_inputs": ids, "encoder_segments": np.ones_like(ids), "encoder_positions": places}
    ours = jax.jit(model.apply)(dict(params), batch).logits
    peer.eval()
    with torch.no_grad():
        theirs = peer(input_ids=torch.tensor(ids).long(), attention_mask=torch.ones(ids.shape).long()).logits.numpy()
    np.testing.assert_allclose(np.asarray(ours), theirs, atol=1e-4)


if __name__ == "__main__":
    main()
