"""`baton convert` where one side is of another format: `hf:DIR`."""

from recipes import recipe
from recipes.exchange import exports, imports, parity, vocabularies

HF, T5X = "hf:", "t5x:"


def foreign(*places: str) -> bool:
    """Whether one of the places is of another format."""
    return any(place.startswith((HF, T5X)) for place in places)


def convert(
    source: str, target: str, *, kind: str | None = None, dtype: str = "float32", dry: bool = False
) -> list[str]:
    """Imports or exports, checks both sides against each other, and returns what to print.

    Raises:
      ValueError: one side is not what it should be. Nothing is written.
    """
    if source.startswith(HF) and target.startswith(HF):
        raise recipe.Mistake(f"{source} and {target} are both of Hugging Face; name WORKDIR/STAGE as one of them")
    if target.startswith(T5X):
        raise recipe.Mistake(f"{target}: T5X checkpoints are read, not written; export to hf:DIR")
    if source.startswith((HF, T5X)):
        published = source.startswith(HF)
        place = source.removeprefix(HF if published else T5X)
        found = imports.open_(imports.find(place)) if published else imports.open_t5x(place)
        count = sum(leaf.size for leaf in found.model.abstract().values())
        lines = [f"{found.kind}, {count:,} parameters, {len(found.aliases)} tensors: {found.model!r}"]
        if dry:
            return lines
        manifest = imports.run(found, target)
        words = (
            f"{target}/{vocabularies.FOLDER}" if manifest["vocabulary"] else "none (no spiece.model, tokenizer.json)"
        )
        lines += [f"the model's gin bindings: {target}/{imports.GIN}", f"its vocabulary: {words}"]
        return [*lines, parity.line(found.directory, target) if published else parity.round_trip(found, target)]
    if dry:
        raise recipe.Mistake("an export has no dry run; leave --dry-run out")
    folder = target.removeprefix(HF)
    made, model = exports.run(source, folder, kind=kind, dtype=dtype)
    lines = [f"{made}: {model!r}"]
    return [*lines, parity.line(folder, source)]
