"""A results page from a run's own files: a table of its stages and a plot of their curves, as SVG.

.venv/bin/python docs/results/curves.py WORKDIR PAGE.md   # writes PAGE.md's table and PAGE.svg
"""

import json
import pathlib
import sys

WIDTH, HEIGHT, MARGIN = 720, 320, 48
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd")


def stages(workdir: pathlib.Path) -> list[dict]:
    """Of each stage: the manifest of its newest checkpoint and its lines of metrics up to there, in order."""
    found = []
    for checkpoints in workdir.glob("*/checkpoints"):
        complete = [path.parent for path in checkpoints.glob("*/complete")]
        if not complete:
            continue
        newest = max(complete, key=lambda path: int(path.name))
        manifest = json.loads((newest / "manifest" / "metadata").read_text())
        lines = [json.loads(line) for line in (checkpoints.parent / "metrics.jsonl").read_text().splitlines()]
        lines = [line for line in lines if line["step"] <= manifest["step"]]
        found.append({"manifest": manifest, "lines": lines})
    return sorted(found, key=lambda stage: len(stage["manifest"]["lineage"]))


def table(found: list[dict]) -> str:
    """A markdown row for each stage."""
    rows = [
        "| stage | steps | tokens | FLOPs | first validation loss | last | seconds of training |",
        "|---|---|---|---|---|---|---|",
    ]
    for stage in found:
        scores = [line["validation/loss"] for line in stage["lines"] if "validation/loss" in line]
        said, times = stage["manifest"], [line["time"] for line in stage["lines"]]
        spent = said["spent"]
        rows.append(
            f"| {said['stage']} | {said['step']} of {said['steps']} | {spent['tokens']:,} | {spent['flops']:.3g} | "
            f"{scores[0]:.3f} | {scores[-1]:.3f} | {times[-1] - times[0]:.0f} |"
        )
    return "\n".join(rows)


def plot(found: list[dict]) -> str:
    """Training (thin) and validation (dotted) loss over the steps of all stages, one colour each."""
    total = sum(stage["manifest"]["step"] for stage in found)
    values = [
        line[name] for stage in found for line in stage["lines"] for name in ("loss", "validation/loss") if name in line
    ]
    low, high = min(values), max(values)

    def at(step: float, loss: float) -> str:
        x = MARGIN + (WIDTH - 2 * MARGIN) * step / total
        return f"{x:.1f},{MARGIN + (HEIGHT - 2 * MARGIN) * (high - loss) / (high - low):.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif"',
        ' font-size="12">',
    ]
    parts.append(f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>')
    before = 0
    for stage, colour in zip(found, COLOURS):
        for name, dashes in (("loss", ""), ("validation/loss", ' stroke-dasharray="4 3" stroke-width="2"')):
            points = " ".join(at(before + line["step"], line[name]) for line in stage["lines"] if name in line)
            parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}"{dashes}/>')
        x = float(at(before, low).split(",")[0])
        parts.append(f'<text x="{x + 4:.0f}" y="{MARGIN - 8}" fill="{colour}">{stage["manifest"]["stage"]}</text>')
        before += stage["manifest"]["step"]
    for loss in (low, (low + high) / 2, high):
        y = float(at(0, loss).split(",")[1])
        parts.append(f'<text x="4" y="{y + 4:.0f}">{loss:.2f}</text>')
        parts.append(f'<line x1="{MARGIN}" x2="{WIDTH - MARGIN}" y1="{y}" y2="{y}" stroke="#ddd"/>')
    parts.append(
        f'<text x="{WIDTH / 2 - 120}" y="{HEIGHT - 12}">step; loss in nats a target, dashed: validation</text></svg>'
    )
    return "\n".join(parts)


def main() -> None:
    """Writes the plot beside the page, and the page's table between its two marks."""
    workdir, page = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    found = stages(workdir)
    page.with_suffix(".svg").write_text(plot(found))
    head, _, rest = page.read_text().partition("<!-- table -->\n")
    tail = rest.partition("<!-- end -->")[2]
    page.write_text(f"{head}<!-- table -->\n{table(found)}\n<!-- end -->{tail}")


if __name__ == "__main__":
    main()
