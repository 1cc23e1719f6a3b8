"""A row of a batch as pieces of text with a style each: what a preview shows, in a terminal or on a page."""

import dataclasses
from collections.abc import Callable

import numpy as np

from tasks import survey

# Styles: 'text', 'prefix' (given to a decoder), 'sentinel', 'mask', 'random', 'kept' (the three fates of a masked
# position), 'mode', 'doc', 'end', 'label', 'border' (where a segment begins).


@dataclasses.dataclass(frozen=True)
class Mark:
    """Some text in one style.

    Attributes:
        text: what stands there.
        style: one of the styles above.
        note: what is wanted there, if anything.
    """

    text: str
    style: str
    note: str = ""


def sides(found: survey.Survey, row: int) -> dict[str, list[Mark]]:
    """Returns the marks of one row: 'inputs' and 'targets', or what there is of them."""
    batch = {name: value[row] for name, value in found.batch.items()}
    spelling, made = found.spelling, {}
    if "encoder_inputs" in batch:
        notes = _notes(batch, spelling)
        made["inputs"] = _marks(batch["encoder_inputs"], batch["encoder_segments"], spelling, notes)
    if "decoder_segments" in batch and "target_positions" not in batch:
        given = (batch["weights"] == 0) & (batch["decoder_segments"] > 0)
        made["targets"] = _marks(batch["targets"], batch["decoder_segments"], spelling, {}, given)
    elif np.ndim(batch["targets"]) == 0:
        made["targets"] = [Mark(str(batch["targets"]), "label")]
    return made


def _notes(batch: dict[str, np.ndarray], spelling: survey.Spelling) -> dict[int, tuple[str, str]]:
    """Returns position to (style, what is wanted there) for the positions of an encoder that carry loss."""
    if np.ndim(batch["targets"]) == 0:
        return {}
    if "target_positions" not in batch:
        at = [] if "decoder_segments" in batch else np.flatnonzero(batch["weights"] > 0).tolist()
        return {place: ("label", str(batch["targets"][place])) for place in at}
    notes = {}
    for place, wanted, weight in zip(*(batch[n].tolist() for n in ("target_positions", "targets", "weights"))):
        if weight:
            own = int(batch["encoder_inputs"][place])
            style = "mask" if own == spelling.specials.mask else "kept" if own == wanted else "random"
            notes[place] = (style, _shown(wanted, spelling))
    return notes


def _marks(
    ids: np.ndarray,
    segments: np.ndarray,
    spelling: survey.Spelling,
    notes: dict[int, tuple[str, str]],
    given: np.ndarray | None = None,
) -> list[Mark]:
    styles = _styles(spelling)
    made: list[Mark] = []
    run: list[int] = []
    run_style, segment = "text", 0

    def flush() -> None:
        if run:
            made.append(Mark(spelling.run(run), run_style))
            run.clear()

    for place, (token, here) in enumerate(zip(ids.tolist(), segments.tolist())):
        if here == 0:
            continue
        if here != segment:
            flush()
            made.append(Mark(str(here), "border"))
            segment = here
        style = "prefix" if given is not None and given[place] else "text"
        if place in notes:
            flush()
            made.append(Mark(_shown(token, spelling), *notes[place]))
        elif token in styles:
            flush()
            made.append(Mark(spelling.piece(token), styles[token]))
        else:
            if style != run_style:
                flush()
                run_style = style
            run.append(token)
    flush()
    return made


def _styles(spelling: survey.Spelling) -> dict[int, str]:
    names: dict[str, Callable[[str], bool]] = {
        "sentinel": lambda name: name.startswith("sentinel"),
        "mode": lambda name: name.startswith("mode"),
        "mask": lambda name: name == "mask",
        "doc": lambda name: name == "doc",
        "end": lambda name: name in ("eos", "pad"),
    }
    found = spelling.specials.named()
    return {i: style for name, i in found.items() for style, holds in names.items() if holds(name)}


def _shown(token: int, spelling: survey.Spelling) -> str:
    return spelling.piece(token).replace("▁", " ")
