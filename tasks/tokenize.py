"""Building token stores from text: in parallel, in bounded memory, going on where a kill left off."""

import dataclasses
import os
from collections.abc import Callable, Mapping
from typing import Any

from tasks import card, chunks, encoder, holdout, layout, manifest, place, sources, store, vocabulary, workers, writer

# Characters in a slice, under a second of work; with its ids it takes some tens of megabytes of a process.
SLICE = 2**21


@dataclasses.dataclass(frozen=True, kw_only=True)
class Progress:
    """How far the build of a part has come.

    Attributes:
        part: its folder: 'en', or 'en.validation'.
        state: 'spelling', 'joining', 'done', or 'kept' for a part that was finished before.
        share: of the source that has been worked on, 0 to 1.
        documents: so far, those of an earlier run that was cut off included.
        tokens: so far.
        bytes: of text so far.
    """

    part: str
    state: str
    share: float
    documents: int
    tokens: int
    bytes: int


def build(
    parts: Mapping[str, sources.Source],
    spelling: encoder.Encoder | str,
    directory: str | os.PathLike[str],
    *,
    processes: int | None = None,
    validation: float = 0.0,
    split: str = "train",
    overwrite: bool = False,
    slice_characters: int = SLICE,
    progress: Callable[[Progress], None] | None = None,
) -> dict[str, manifest.Manifest]:
    """Spells each source into a part of a store.

    A finished part of the same source and vocabulary is left as it is; an interrupted one goes on from its finished
    slices. What is written depends neither on `processes` nor on how often the build was killed.

    Args:
        parts: name of the part to its text.
        spelling: the vocabulary, or the path that `vocabulary.encoder` opens.
        directory: the store, on disk or gs://.
        processes: how many spell, None for one a core; 1 works in this process.
        validation: share of each source's documents that goes into the part's split 'validation' instead.
        split: what these sources themselves are: 'train', or 'validation' for held-out text that lies apart.
        overwrite: replaces parts of another source, vocabulary or share, once the new ones' text is spelt.
        slice_characters: text that is worked on at a time; no part of the result.
        progress: called now and then.

    Returns:
        The manifest of each part.

    Raises:
        ValueError: a source cannot be read, is empty, or has no document to hold out; the store or a part of it is of
            another vocabulary, source or share.
    """
    held = holdout.Holdout(share=validation)
    if validation and split != "train":
        raise ValueError(f"validation={validation} cannot be held out of split {split!r}: hold it out of 'train'")
    opened = spelling if isinstance(spelling, encoder.Encoder) else vocabulary.encoder(spelling)
    jobs = [
        _Job(
            name=name,
            source=source,
            digest=source.digest(),
            spelling=opened,
            directory=str(directory),
            split=split,
            held=held,
            slice_characters=slice_characters,
        )
        for name, source in parts.items()
    ]
    if not jobs:
        raise ValueError("a store needs text: name at least one part")
    # Every refusal comes before any work.
    kept = {job.name: job.finished(overwrite) for job in jobs}
    _settle_vocabulary(opened, str(directory), {folder for job in jobs for folder in job.replaced()}, overwrite)
    tell = progress or (lambda state: None)
    found: dict[str, manifest.Manifest] = {}
    with workers.Workers(opened, processes or workers.cores()) as crew:
        for job in jobs:
            done = kept[job.name]
            if done is not None:
                # Killed between the manifest, which is written last, and this.
                job.where.delete(chunks.FOLDER)
                side = chunks.Side(documents=done.documents, tokens=done.tokens, bytes=done.bytes)
                tell(job.state("kept", 1.0, side))
            found[job.name] = done or job.run(crew, tell)
    return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Job:
    """One part to be built."""

    name: str
    source: sources.Source
    digest: str
    spelling: encoder.Encoder
    directory: str
    split: str
    held: holdout.Holdout
    slice_characters: int

    @property
    def folder(self) -> str:
        return layout.folder(self.name, self.split)

    @property
    def where(self) -> place.Place:
        return place.Place(self.directory) / self.folder

    @property
    def origin(self) -> dict[str, Any]:
        return {"description": self.source.description, "digest": self.digest, "validation": self.held.share}

    def state(self, state: str, share: float, side: chunks.Side) -> Progress:
        return Progress(
            part=self.folder,
            state=state,
            share=share,
            documents=side.documents,
            tokens=side.tokens,
            bytes=side.bytes,
        )

    def finished(self, overwrite: bool) -> manifest.Manifest | None:
        """Returns the manifest of the part if it is finished, None if there is work to do.

        Raises:
            ValueError: what is there comes from another source, vocabulary or share, or is damaged.
        """
        values = self.where.read_json(manifest.FILE)
        if values is not None:
            try:
                found = manifest.Manifest.from_json(values, where=f"{self.where}/{manifest.FILE}")
                self._compare(found.source, found.vocabulary)
                for split in (self.split, self.held.split) if self.held.share else (self.split,):
                    store.open(self.directory, self.name, split=split)
                return found
            except ValueError:
                if not overwrite:
                    raise
        plan = self.where.read_json(f"{chunks.FOLDER}/{chunks.PLAN}")
        if plan is not None and not overwrite:
            self._compare(plan["source"], plan["vocabulary"])
        return None

    def replaced(self) -> set[str]:
        """Returns the folders that this part's build owns: its own, and that of what is or was held out of it."""
        found = {self.folder}
        if self.split == "train":
            folder = layout.folder(self.name, self.held.split)
            values = (place.Place(self.directory) / folder).read_json(manifest.FILE) or {}
            if self.held.share or values.get("source", {}).get("validation"):
                found.add(folder)
        return found

    def _compare(self, source: Mapping[str, Any], fingerprint: str) -> None:
        """Says what differs between what was built and what is asked for."""
        mend = "build into another directory, or replace it with --overwrite"
        if fingerprint != self.spelling.fingerprint:
            raise ValueError(
                f"store {self.where} was built with the vocabulary {fingerprint[:12]}, this one "
                f"({self.spelling.path}) is {self.spelling.fingerprint[:12]}: {mend}"
            )
        if source["digest"] != self.digest:
            raise ValueError(
                f"store {self.where} was built from {source['description']} with the digest {source['digest'][:12]}, "
                f"now {self.source.description} has {self.digest[:12]}: {mend}"
            )
        if source["validation"] != self.held.share:
            raise ValueError(
                f"store {self.where} was built with validation={source['validation']}, "
                f"now validation={self.held.share} is asked for: {mend}"
            )

    def run(self, crew: workers.Workers, tell: Callable[[Progress], None]) -> manifest.Manifest:
        """Builds the part."""
        plan = {"source": self.origin, "vocabulary": self.spelling.fingerprint, "characters": self.slice_characters}
        if self.where.read_json(f"{chunks.FOLDER}/{chunks.PLAN}") != plan:
            self.where.delete(chunks.FOLDER)
            self.where.write_json(f"{chunks.FOLDER}/{chunks.PLAN}", plan)
        files = chunks.Chunks(self.where, layout.dtype(self.spelling.specials.size))
        done = files.done()
        so_far = chunks.total(done.values())
        share = 0.0
        pending = ((n, part) for n, part in enumerate(self.source.slices(self.slice_characters)) if n not in done)
        for number, part, chunk in crew.run(pending, files, self.held):
            done[number] = chunk
            so_far = so_far + chunk.train + chunk.held
            share = max(share, part.share)
            tell(self.state("spelling", share, so_far))
        tell(self.state("joining", 1.0, so_far))
        if self.held.share:
            self._join(files, done, held=True)
        else:
            # What an overwritten build held out is now among the training documents.
            for folder in self.replaced() - {self.folder}:
                (place.Place(self.directory) / folder).delete()
        found = self._join(files, done, held=False)
        self.where.delete(chunks.FOLDER)
        tell(self.state("done", 1.0, so_far))
        return found

    def _join(self, files: chunks.Chunks, done: dict[int, chunks.Chunk], *, held: bool) -> manifest.Manifest:
        split = self.held.split if held else self.split
        side = chunks.total(done.values(), held=held)
        if not side.documents:
            why = f"holds out no document at validation={self.held.share}" if held else "has no text"
            raise ValueError(f"{self.source.description} {why}: the part {self.name!r} would be empty, give it more")
        whole = writer.Writer(
            place.Place(self.directory) / layout.folder(self.name, split),
            tokens=side.tokens,
            documents=side.documents,
            dtype=layout.dtype(self.spelling.specials.size),
        )
        for number in sorted(done):
            whole.append(*files.read(number, done[number], held=held))
        return whole.close(
            part=self.name,
            split=split,
            vocabulary=self.spelling.fingerprint,
            source=self.origin,
            characters=side.characters,
            bytes=side.bytes,
        )


def _settle_vocabulary(opened: encoder.Encoder, directory: str, building: set[str], overwrite: bool) -> None:
    """Puts the vocabulary into the store, unless another one is there that some part still needs."""
    there = card.read(directory)
    if there is not None and there.fingerprint == opened.fingerprint:
        return
    if there is not None:
        others = {key.split("/")[0] for key in place.Place(directory).keys() if "/" in key} - building
        if others or not overwrite:
            mend = "build into another directory" + ("" if others else ", or replace it with --overwrite")
            needed = f", which {', '.join(sorted(others))} need" if others else ""
            raise ValueError(
                f"store {directory} has the vocabulary {there.fingerprint[:12]}{needed}, this one ({opened.path}) is "
                f"{opened.fingerprint[:12]}: {mend}"
            )
    opened.save(directory)
