"""Import: a Hugging Face model directory becomes the beginning of an ordinary stage, leaf by leaf."""

import dataclasses
import hashlib
import json
import pathlib
from typing import Any

import numpy as np
from etils import epath

from models.families import known, rules
from models.families import t5x as t5x_names
from recipes import checkpoint, leafwise, lineage, recipe, spell
from recipes.exchange import t5x, tensors, vocabularies

GIN = "model.gin"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """A published model: its family, our model, its name map, and its tensors by the map's names."""

    directory: str
    kind: str
    config: dict[str, Any]
    model: Any
    map: rules.Map
    bundles: list[rules.Bundle]
    reader: tensors.Reader | t5x.Reader
    aliases: dict[str, str]

    def read(self, name: str) -> np.ndarray:
        """A tensor by the name that the map has for it."""
        return self.reader.read(self.aliases[name])


def find(where: str) -> str:
    """The directory of a model: itself, or a repository's newest snapshot in the local cache, or fetched."""
    if pathlib.Path(where).is_dir():
        return where
    if where.count("/") > 1 or where.startswith((".", "/")):
        raise recipe.Mistake(f"hf:{where} is no directory; name one, or a model such as hf:google/mt5-small")
    import huggingface_hub

    files = ["*.json", "*.safetensors", "*.model"]
    try:
        return huggingface_hub.snapshot_download(where, allow_patterns=files, local_files_only=True)
    except Exception:  # not in the cache; the library has a different error for each reason
        try:
            return huggingface_hub.snapshot_download(where, allow_patterns=files)
        except Exception as error:
            reason = " ".join(str(error).split())[:160]
            raise recipe.Mistake(
                f"hf:{where} is no directory here, not cached and can't be fetched: {reason}"
            ) from None


def open_(directory: str) -> Source:
    """Reads a directory's configuration and headers and holds them to each other; no tensor is read whole but copies.

    Raises:
      ValueError: what is there is not supported, or not whole.
    """
    file = pathlib.Path(directory) / "config.json"
    if not file.is_file():
        raise ValueError(f"{directory} has no config.json; name a model's directory")
    config = json.loads(file.read_text())
    reader = tensors.Reader(directory)
    plain = {_modern(name): name for name in reader.shapes}

    def same(left: str, right: str) -> bool:
        return all(name in plain for name in (left, right)) and np.array_equal(
            reader.read(plain[left]), reader.read(plain[right])
        )

    kind, model = known.read(config, str(file), lambda name: name in plain, same)
    of = known.names(model, kind)
    bare = of.prefix and not any(name.startswith(of.prefix) for name in plain)
    heads = (
        {rule.theirs for rule in of.rules if not rule.theirs.startswith(of.prefix)} | set(of.copies) | set(of.unread)
    )
    aliases = {of.prefix + name if bare and name not in heads else name: file for name, file in plain.items()}
    made = rules.bundles(of, model.abstract())
    rules.check(of, made, {name: reader.shapes[there] for name, there in aliases.items()}, directory)
    for copy, of_what in of.copies.items():
        if copy in aliases and not np.array_equal(reader.read(aliases[copy]), reader.read(aliases[of_what])):
            raise ValueError(f"{directory}: {copy} differs from {of_what}, which its configuration ties it to")
    return Source(
        directory=directory,
        kind=kind,
        config=config,
        model=model,
        map=of,
        bundles=made,
        reader=reader,
        aliases=aliases,
    )


def open_t5x(where: str) -> Source:
    """Reads a T5X checkpoint, whose shapes say which model it is."""
    reader = t5x.Reader(where)
    model = t5x_names.read(reader.shapes, where)
    of = t5x_names.names(model)
    made = rules.bundles(of, model.abstract())
    rules.check(of, made, reader.shapes, where)
    aliases = {name: name for name in reader.shapes}
    return Source(
        directory=where, kind="t5x", config={}, model=model, map=of, bundles=made, reader=reader, aliases=aliases
    )


def run(source: Source, target: str) -> dict[str, Any]:
    """Writes the stage directory `target`: a checkpoint at step 0, model.gin, and the vocabulary if there is one.

    Returns the manifest. Memory is bounded by the largest parameter.

    Raises:
      recipe.Mistake: there is a checkpoint already, or the vocabulary contradicts the configuration.
    """
    if checkpoint.steps(epath.Path(target) / "checkpoints"):
        raise recipe.Mistake(f"{target} already holds a checkpoint; name another target or remove it")
    encoder = vocabularies.find(source.directory, source.config) if source.config else None
    leaves, text = source.model.abstract(), spell.spell(source.model)
    manifest = _manifest(source, target, text, encoder)
    with leafwise.Writer(target, 0, manifest) as writer:
        for bundle in source.bundles:
            values = rules.ours(bundle, leaves, source.read)
            for path in bundle.leaves:
                writer.put(path, values.pop(path))
    (epath.Path(target) / GIN).write_text(text)
    if encoder is not None:
        encoder.save(f"{target}/{vocabularies.FOLDER}")
    return manifest


def _modern(name: str) -> str:
    """BERT's first files call a norm's scale gamma and its bias beta."""
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def _manifest(source: Source, target: str, text: str, encoder: Any) -> dict[str, Any]:
    total = hashlib.sha256()
    config = [pathlib.Path(source.directory) / "config.json"] if source.config else []
    for file in (*config, *source.reader.files):
        with open(file, "rb") as opened:
            total.update(f"{file.name} {hashlib.file_digest(opened, 'sha256').hexdigest()}\n".encode())
    digest, hashed = total.hexdigest(), hashlib.sha256(text.encode()).hexdigest()
    spent = dict.fromkeys(("tokens", "flops", "training_units"), 0)
    ids = {name: value for name, value in source.config.items() if name.endswith("_token_id")}
    ancestor = {
        "recipe": f"{'hf' if source.config else 't5x'}:{source.directory}",
        "stage": source.kind,
        "step": 0,
        "params_digest": digest,
    }
    return {
        "format": lineage.FORMAT,
        "recipe": "import",
        "stage": epath.Path(target).name,
        "step": 0,
        "steps": 0,
        "clock": 0,
        "start": {
            "origin": "import",
            "parent": {"directory": source.directory, "step": 0, "params_digest": digest},
            "handoff": None,
            "family": source.kind,
        },
        "lineage": [ancestor | {"ids": ids, "gin_hash": hashed, **spent}],
        "spent": spent,
        "skipped": 0,
        "streak": 0,
        "best": None,
        "params_digest": None,
        "vocabulary": None if encoder is None else encoder.fingerprint,
        "model": {"kind": source.model.kind, "config": repr(source.model)},
        "gin": {"hash": hashed, "text": text},
        "versions": lineage.versions(),
        "commit": lineage.commit(),
    }
