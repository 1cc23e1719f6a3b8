"""The other side of step.py: the same shapes in Hugging Face transformers, run as a process that step.py talks to.

Float32 weights, PyTorch's fused AdamW, gradients clipped to norm 1 and no dropout, as the Trainer would run it; for
bfloat16, autocast. On a GPU the model is compiled.
"""

import contextlib
import time
import warnings
from typing import Any

from benchmarks import shapes


def versions() -> str:
    """Names and versions of what is measured; raises ImportError where it is not installed."""
    import torch  # pyright: ignore[reportMissingImports]  the peer is installed by hand

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import transformers
    return f"transformers {transformers.__version__}, torch {torch.__version__}"


class Peer:
    """A model, its optimizer and one batch of random tokens."""

    def __init__(self, name: str, dtype: str, rows: int, threads: int):
        import torch  # pyright: ignore[reportMissingImports]  the peer is installed by hand

        self._torch = torch
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        torch.set_float32_matmul_precision("highest" if dtype == "float32" else "high")
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        shape = shapes.named(name, dtype)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = (_t5 if shape.targets else _mlm)(shape).to(self._device).train()
        self._weights = list(model.parameters())
        self._optimizer = torch.optim.AdamW(self._weights, lr=1e-4, weight_decay=0.01, fused=True)
        self._model = torch.compile(model) if self._device == "cuda" else model
        self._batch = {key: torch.tensor(value, device=self._device) for key, value in _batch(shape, rows).items()}
        low = torch.autocast(self._device, torch.bfloat16)
        self._precision = low if dtype == "bfloat16" else contextlib.nullcontext()

    def run(self, steps: int) -> float:
        """Seconds that `steps` updates take."""
        start = time.perf_counter()
        for _ in range(steps):
            with self._precision:
                loss = self._model(**self._batch).loss
            loss.backward()
            self._torch.nn.utils.clip_grad_norm_(self._weights, 1.0)
            self._optimizer.step()
            self._optimizer.zero_grad(set_to_none=True)
        loss.item()
        return time.perf_counter() - start


def _t5(shape: shapes.Shape) -> Any:
    import transformers

    ours: Any = shape.model
    named: Any = transformers.T5Config
    config = named(
        vocab_size=ours.vocabulary,
        d_model=ours.encoder.width,
        d_kv=ours.encoder.size,
        d_ff=ours.encoder.mlp,
        num_layers=ours.encoder.layers,
        num_heads=ours.encoder.heads,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
        decoder_start_token_id=0,
        use_cache=False,
        tie_word_embeddings=False,
    )
    # The argument only takes away the factor on the logits; the attribute unties.
    config.tie_word_embeddings = False
    return transformers.T5ForConditionalGeneration(config)


def _mlm(shape: shapes.Shape) -> Any:
    import transformers

    ours: Any = shape.model
    config = transformers.BertConfig(
        vocab_size=ours.vocabulary,
        hidden_size=ours.stack.width,
        num_hidden_layers=ours.stack.layers,
        num_attention_heads=ours.stack.heads,
        intermediate_size=ours.stack.mlp,
        max_position_embeddings=ours.stack.max_positions,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return transformers.BertForMaskedLM(config)


def _batch(shape: shapes.Shape, rows: int) -> dict[str, Any]:
    import numpy as np

    ours = shape.batch(rows)
    inputs = ours["encoder_inputs"].astype(np.int64)
    if shape.targets:
        return {"input_ids": inputs, "labels": ours["targets"].astype(np.int64)}
    labels = np.full_like(inputs, -100)
    np.put_along_axis(labels, ours["target_positions"].astype(np.int64), ours["targets"].astype(np.int64), axis=1)
    return {"input_ids": inputs, "labels": labels}
