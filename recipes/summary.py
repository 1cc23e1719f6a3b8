"""What a recipe's stages made and cost: one table from the files that they left, and the compute that it saved."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import rich.console
import rich.table
from etils import epath

from recipes import checkpoint, ledger, lineage, paths, recipe, run


@dataclasses.dataclass(frozen=True, kw_only=True)
class Saving:
    """Two ways to the same models: what each cost, and the share of the dearer that the cheaper leaves unspent."""

    name: str
    cheap: ledger.Spent
    dear: ledger.Spent
    saved: ledger.Saved


def stages(of: recipe.Recipe, workdir: str) -> list[dict[str, Any]]:
    """Of each finished stage: name, steps, tokens, parameters, FLOPs, training units and its scores."""
    found = []
    for stage in of.stages:
        record = run.done(epath.Path(workdir) / stage.name)
        if record is None:
            continue
        leaves = stage.model.abstract()
        frozen = [path for path in leaves if any(paths.matches(pattern, path) for pattern in stage.frozen)]
        total = sum(leaf.size for leaf in leaves.values())
        found.append(
            {
                "name": stage.name,
                "steps": record["step"],
                "params": total,
                "trainable_params": total - sum(leaves[path].size for path in frozen),
                **record["spent"],
                "scores": record["scores"],
            }
        )
    return found


def savings(of: recipe.Recipe, workdir: str) -> list[Saving]:
    """The recipe's comparisons, from the ledgers in the manifests; a stage that two lineages share counts once."""
    found = []
    for name, cheap, dear in of.compare:
        folders = [epath.Path(workdir) / stage for stage in (*cheap, *dear)]
        if not all((folder / "done").exists() for folder in folders):
            continue
        one, other = (
            ledger.total(entry for stage in side for entry in spent(epath.Path(workdir) / stage))
            for side in (cheap, dear)
        )
        found.append(Saving(name=name, cheap=one, dear=other, saved=ledger.saved(one, other)))
    return found


def spent(folder: epath.Path) -> list[ledger.Spent]:
    """What each stage of the lineage that ends in `folder` cost, the oldest first."""
    return [
        ledger.Spent(
            key=f"{entry['recipe']}/{entry['stage']}",
            tokens=entry["tokens"],
            flops=entry["flops"],
            training_units=entry["training_units"],
        )
        for entry in lineage.descent(checkpoint.manifest(folder))
    ]


def _scores(scores: Mapping[str, float]) -> list[str]:
    """The measure of each evaluation: its F1 or exact match where it has one, else its accuracy."""
    found: dict[str, str] = {}
    for measure, short in (("accuracy", "acc."), ("f1", "F1"), ("exact_match", "exact")):
        for name, value in scores.items():
            if name.count("/") == 1 and name.endswith(f"/{measure}"):
                found[name.split("/")[0]] = f"{short} {value:.3f}"
    return list(found.values())


def show(of: recipe.Recipe, workdir: str, console: rich.console.Console) -> None:
    """Prints the table of stages and a line for each comparison."""
    table = rich.table.Table(title=f"recipe {of.name}")
    for column in ("stage", "steps", "tokens", "trainable", "parameters", "FLOPs", "loss", "score"):
        table.add_column(column, justify="left" if column == "stage" else "right", no_wrap=True)
    for row in stages(of, workdir):
        losses = [f"{value:.3f}" for name, value in row["scores"].items() if name.endswith("/loss")]
        table.add_row(
            row["name"],
            f"{row['steps']:,}",
            f"{row['tokens']:,.0f}",
            f"{row['trainable_params']:,}",
            f"{row['params']:,}",
            f"{row['flops']:.2e}",
            "\n".join(losses),
            "\n".join(_scores(row["scores"])),
        )
    console.print(table)
    for saving in savings(of, workdir):
        console.print(
            f"{saving.name}: {saving.cheap.flops:.4g} FLOPs ({saving.cheap.key}) against {saving.dear.flops:.4g} "
            f"({saving.dear.key}): {saving.saved.flops:.1%} saved; in training units {saving.saved.training_units:.1%}",
            highlight=False,
        )
