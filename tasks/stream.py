"""A SeqIO mixture through tf.data, packed by SeqIO's feature converters, to the batch contract. Imports TensorFlow."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from tasks import batches, provider

_SIDES = {"encoder": "encoder_input_tokens", "decoder": "decoder_target_tokens"}


class StreamFeed(Iterator[batches.Batch]):
    """An iterator over batches that tf.data makes ahead on its own threads.

    Attributes:
        step: of the batch that `next` gives.
    """

    def __init__(self, data: tf.data.Dataset, *, form: str, spec: batches.Spec, start: int, rows: slice, what: str):
        """Skips to `start`, in time linear in it.

        Args:
            data: of whole batches.
            form: as `Streamed` has it.
            spec: of whole batches.
            start: first step.
            rows: which rows of a batch to keep.
            what: name of the mixture, for messages.
        """
        self.step = start
        ahead: Any = data.skip(start).prefetch(4)
        self._found: Iterator[Mapping[str, np.ndarray]] | None = ahead.as_numpy_iterator()
        self._form, self._spec, self._rows, self._what = form, spec, rows, what

    def __next__(self) -> batches.Batch:
        """Returns the next batch.

        Raises:
            ValueError: the mixture's rows have other shapes than its lengths promise.
        """
        if self._found is None:
            raise StopIteration
        made = contract(next(self._found), self._form, masked=self._spec["targets"][0][-1])
        made["part"] = np.zeros(self._spec["part"][0], np.int32)
        for name, (shape, _) in self._spec.items():
            got = made[name].shape if name in made else None
            if got != shape:
                raise ValueError(
                    f"mixture {self._what!r} gives {name} of shape {got} where {shape} was asked for: "
                    "give its form, inputs and targets as the mixture makes them"
                )
        self.step += 1
        return {name: made[name][self._rows].astype(dtype) for name, (_, dtype) in self._spec.items()}

    def close(self) -> None:
        """Lets go of the dataset."""
        self._found = None


def dataset(
    found: seqio.Task | seqio.Mixture,
    *,
    form: str,
    inputs: int,
    targets: int,
    split: str,
    batch: int,
    seed: int,
    pack: bool,
) -> tf.data.Dataset:
    """Returns endless batches of a task or mixture, shuffled, a pure function of the seed.

    Raises:
        ValueError: its features are not those of the form, or the vocabulary has no mask id where one is needed.
    """
    check(found, form)
    ready = prepared(found)
    lengths = {"inputs": inputs, "targets": targets}
    if form == "causal" and not ready:
        lengths = {"targets": inputs + targets}
    elif form == "masked" and not ready:
        lengths["targets"] = inputs
    # A prepared row is as the contract has it; trimming by name would cut into it.
    data = found.get_dataset(
        sequence_length=lengths, split=split, shuffle=True, seed=seed, num_epochs=None, trim_output_features=not ready
    )
    if ready:
        names = list(found.output_features)
        data = data.map(lambda row: {name: row[name] for name in names})
    else:
        data = _converter(found, form, pack)(data, lengths)
    return data.batch(batch, drop_remainder=True)


def check(found: seqio.Task | seqio.Mixture, form: str) -> None:
    """Raises a ValueError unless the features and the vocabulary of a task or mixture serve the form."""
    if prepared(found):
        return
    needed = ["targets"] if form == "causal" else ["inputs", "targets"]
    if not set(needed) <= set(found.output_features):
        have = sorted(found.output_features)
        raise ValueError(f"SeqIO task {found.name!r} has the features {have}, form={form!r} needs {needed}: change one")
    if form == "masked":
        provider.special(found).need("mask", f"form='masked' of {found.name!r}")


def guess(found: seqio.Task | seqio.Mixture, *, inputs: int, targets: int, split: str) -> tuple[str, int]:
    """Returns the form that the features of a task or mixture suggest, and the length of its targets in that form."""
    features = set(found.output_features)
    if not prepared(found):
        return ("encdec" if "inputs" in features else "causal"), targets
    if "target_positions" in features:
        lengths = {"inputs": inputs, "targets": targets}
        rows = found.get_dataset(sequence_length=lengths, split=split, shuffle=False, trim_output_features=False)
        return "masked", int(rows.element_spec["targets"].shape[0])
    if "encoder_inputs" in features:
        return "encdec", targets
    return ("prefix" if "decoder_prefix" in features else "causal"), targets


def prepared(found: seqio.Task | seqio.Mixture) -> bool:
    """Returns whether a task makes rows of the batch contract by itself, as Baton's own do."""
    return bool({"encoder_inputs", "decoder_inputs"} & set(found.output_features))


def contract(found: Mapping[str, np.ndarray], form: str, *, masked: int) -> batches.Batch:
    """Returns a batch with the names and segments of the contract.

    Args:
        found: what SeqIO's feature converter gave, [B, length] each; or a batch of the contract, which is returned.
        form: as `Streamed` has it.
        masked: target positions a row, for form 'masked'.
    """
    if "encoder_inputs" in found or "decoder_inputs" in found:
        return dict(found)
    made: batches.Batch = {}
    for side, tokens in _SIDES.items():
        if tokens in found:
            # Without packing a row is one segment; SeqIO pads with 0.
            used = (found[tokens] != 0).astype(np.int32)
            made[f"{side}_segments"] = found.get(f"{side}_segment_ids", used)
            columns = np.broadcast_to(np.arange(used.shape[1], dtype=np.int32), used.shape) * used
            made[f"{side}_positions"] = found.get(f"{side}_positions", columns)
    if "encoder_input_tokens" in found:
        made["encoder_inputs"] = found["encoder_input_tokens"]
    if form == "masked":
        return {**made, **_gathered(found["encoder_target_tokens"], found["encoder_loss_weights"], masked)}
    made["decoder_inputs"] = found["decoder_input_tokens"]
    made["targets"] = found["decoder_target_tokens"]
    made["weights"] = found["decoder_loss_weights"].astype(np.float32)
    if form == "prefix":
        made["decoder_prefix"] = found["decoder_causal_attention"]
    return made


def _gathered(answers: np.ndarray, weights: np.ndarray, masked: int) -> batches.Batch:
    at = np.sort(np.argsort(weights == 0, axis=1, kind="stable")[:, :masked], axis=1)
    used = np.take_along_axis(weights, at, 1) > 0
    at = np.take_along_axis(at, np.argsort(~used, axis=1, kind="stable"), 1)
    used = np.take_along_axis(weights, at, 1) > 0
    return {
        "target_positions": np.where(used, at, 0),
        "targets": np.where(used, np.take_along_axis(answers, at, 1), 0),
        "weights": used.astype(np.float32),
    }


def _converter(found: seqio.Task | seqio.Mixture, form: str, pack: bool) -> Any:
    special = provider.special(found)
    if form == "masked":
        return seqio.EncoderFeatureConverter(special.need("mask", f"form='masked' of {found.name!r}"), pack=pack)
    chosen = {
        "encdec": seqio.EncDecFeatureConverter,
        "causal": seqio.LMFeatureConverter,
        "prefix": seqio.PrefixLMFeatureConverter,
    }[form]
    return chosen(pack=pack, bos_id=special.start)
