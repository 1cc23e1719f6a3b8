"""A trained stage, read from its folder alone: what it is, by the manifest of its newest checkpoint."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from etils import epath

from models import decoder, encdec, encoder
from recipes import checkpoint, config, recipe
from recipes.exchange import vocabularies

_CLASSES = {one.kind: one for one in (encoder.Encoder, decoder.Decoder, encdec.EncoderDecoder)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trained:
    """A stage that has a checkpoint, whether it was trained here or imported.

    Attributes:
      folder: WORKDIR/STAGE.
      manifest: of its newest checkpoint.
      paths: its parameters.
      model: its model.
      stage: its configuration; None of an imported model, which has no data, loss or optimizer here.
      vocabulary: where its vocabulary lies, the token store or what an import brought; None where nothing tells.
    """

    folder: str
    manifest: Mapping[str, Any]
    paths: tuple[str, ...]
    model: Any
    stage: recipe.Stage | None = None
    vocabulary: str | None = None

    @property
    def root(self) -> epath.Path:
        """The folder of its newest checkpoint."""
        return _root(self.folder, self.manifest)

    @property
    def spelling(self) -> list[str]:
        """What to bind for a downstream task to be spelt alike; nothing where the vocabulary isn't there any more."""
        there = self.vocabulary is not None and epath.Path(self.vocabulary).exists()
        return [f"VOCABULARY={self.vocabulary!r}"] if there else []


def read(folder: str) -> Trained:
    """What the stage in `folder` is; raises Mistake when it holds no checkpoint, or one whose model isn't known."""
    manifest = checkpoint.manifest(folder)
    if not manifest["gin"]["text"]:
        raise recipe.Mistake(
            f"{folder} was converted without its model being named: convert it again with --recipe FILE --stage NAME"
        )
    text, paths = manifest["gin"]["text"], tuple(checkpoint.abstract(_root(folder, manifest)))
    found: dict[str, Any] = {"folder": folder, "manifest": manifest, "paths": paths}
    if manifest["start"].get("origin") == "import":
        own = epath.Path(folder) / vocabularies.FOLDER
        model = config.parse(text, folder, of=_CLASSES[manifest["model"]["kind"]]).value
        return Trained(model=model, vocabulary=str(own) if own.is_dir() else None, **found)
    stage = config.parse(text, folder).value.stage(manifest["stage"])
    return Trained(model=stage.model, stage=stage, vocabulary=getattr(stage.data, "store", None), **found)


def _root(folder: str, manifest: Mapping[str, Any]) -> epath.Path:
    return epath.Path(folder) / "checkpoints" / str(manifest["step"])
