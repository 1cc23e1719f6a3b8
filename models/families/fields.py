"""A published configuration, read option by option so that none is overlooked."""

from collections.abc import Mapping
from typing import Any

# What says nothing about the numbers that a model computes, or what only generation and other heads read.
_SILENT = frozenset(
    "_name_or_path architectures model_type torch_dtype dtype transformers_version use_cache id2label label2id "
    "num_labels problem_type task_specific_params output_past is_encoder_decoder tokenizer_class _num_labels "
    "pad_token_id bos_token_id eos_token_id sep_token_id cls_token_id unk_token_id decoder_start_token_id "
    "forced_bos_token_id forced_eos_token_id classifier_dropout classif_dropout initializer_range initializer_factor "
    "init_std gradient_checkpointing num_beams early_stopping length_penalty no_repeat_ngram_size max_length "
    "min_length prefix directionality pretraining_tp classifier_pooling classifier_bias classifier_activation "
    "summary_type summary_use_proj summary_activation summary_proj_to_labels summary_first_dropout "
    "summary_last_dropout pooler_fc_size pooler_num_attention_heads pooler_num_fc_layers pooler_size_per_head "
    "pooler_type chunk_size_feed_forward return_dict n_ctx".split()
)


class Fields:
    """The options of a config.json; each is taken once, and `done` refuses what no one took and is not off."""

    def __init__(self, values: Mapping[str, Any], where: str):
        """`where` names the file in messages."""
        self.values, self.where = dict(values), where
        self._taken: set[str] = set()

    def take(self, name: str, default: Any) -> Any:
        """The option, or what transformers takes in its absence."""
        self._taken.add(name)
        found = self.values.get(name)
        return default if found is None else found

    def need(self, name: str) -> Any:
        """The option; raises ValueError without it."""
        if self.values.get(name) is None:
            raise ValueError(f"{self.where} has no {name!r}, which this family needs; complete it")
        return self.take(name, None)

    def only(self, name: str, allowed: Any) -> None:
        """Raises ValueError unless the option is absent or `allowed`."""
        if (found := self.take(name, allowed)) != allowed:
            raise ValueError(f"{self.where}: {name} = {found!r} is not supported, only {allowed!r}")

    def one_of(self, name: str, known: Mapping[str, Any], default: str) -> Any:
        """What `known` has for the option."""
        found = self.take(name, default)
        if found not in known:
            raise ValueError(f"{self.where}: {name} = {found!r} is not supported, only {', '.join(known)}")
        return known[found]

    def architecture(self, known: Mapping[str, Any], default: str) -> Any:
        """What `known` has for the class that the checkpoint is of."""
        names = self.take("architectures", [default])
        if len(names) != 1 or names[0] not in known:
            raise ValueError(f"{self.where}: architectures = {names!r} is not supported, only {', '.join(known)}")
        return known[names[0]]

    def done(self) -> None:
        """Raises ValueError for an option that was not read and is not off."""
        for name, value in self.values.items():
            if name not in self._taken and name not in _SILENT and value not in (None, False, 0, {}, [], ""):
                raise ValueError(f"{self.where}: option {name} = {value!r} is unknown, so it is not ignored; remove it")


ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "relu2": "relu2",
    "silu": "silu",
    "swish": "silu",
}
WRITTEN = {"gelu": "gelu", "gelu_tanh": "gelu_new", "relu": "relu", "relu2": "relu2", "silu": "silu"}
