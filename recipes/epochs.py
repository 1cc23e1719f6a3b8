"""How often each part of a token store has been read by the end of a stage, and which parts too often.

Counted along the handoffs inside a recipe, where the stages read the same store; what a run of another recipe has read
before is not known here.
"""

from collections.abc import Iterator

from recipes import recipe


def counted(of: recipe.Recipe, stage: recipe.Stage) -> dict[str, float]:
    """Part -> epochs by the end of `stage`, for the parts it reads; empty without `max_epochs` or without the store."""
    if getattr(stage.data, "max_epochs", None) is None:
        return {}
    found: dict[str, float] = {}
    for each in _descent(of, stage):
        if (each.data.store, each.data.split) != (stage.data.store, stage.data.split):
            continue
        try:
            read = each.data.epochs(each.steps * each.batch)
        except ValueError:
            return {}
        for part, count in read.items():
            found[part] = found.get(part, 0.0) + count
    return {part: found[part] for part in stage.data.parts()} if found else {}


def warnings(of: recipe.Recipe, stage: recipe.Stage) -> list[str]:
    """A line that names the parts which are read more often than `Blend.max_epochs` allows, or none."""
    limit = getattr(stage.data, "max_epochs", None)
    much = {part: count for part, count in counted(of, stage).items() if limit is not None and count > limit}
    if not much:
        return []
    parts = ", ".join(f"{part} {count:.1f} times" for part, count in much.items())
    return [
        f"by the end of stage {stage.name!r} {parts} will have been read, and its data's max_epochs is {limit:g}; "
        "lower these rates, shorten the stage or add text"
    ]


def _descent(of: recipe.Recipe, stage: recipe.Stage) -> Iterator[recipe.Stage]:
    """The stage and those of the recipe that its parameters come from, as far as they read a blend."""
    while True:
        if hasattr(stage.data, "epochs"):
            yield stage
        if stage.start is None or recipe.is_directory(stage.start.source):
            return
        stage = of.stage(stage.start.source)
