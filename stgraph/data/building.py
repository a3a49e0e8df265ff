"""One run of the building of a corpus: what is to be made, the encoder, the shards, the manifest."""

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from stgraph.data.arrays import sha256_of, write_arrays
from stgraph.data.documents import fingerprint, read_document, write_document
from stgraph.data.jobs import Progress, each_done
from stgraph.data.making import Job, Outcome, Recipe, make_shards, sample
from stgraph.data.manifest import (
    CONFIG,
    CORPUS_VERSION,
    ENCODER,
    GENES,
    MANIFEST,
    RECORDS,
    SHARDS,
    Manifest,
    SliceRecord,
    read_genes,
)
from stgraph.data.shards import SHARD_VERSION
from stgraph.data.sources import Look, Scan, Section, name_slices, scan
from stgraph.data.standing import Standing
from stgraph.errors import InputError, StgraphWarning, StoreError
from stgraph.preprocess.encoder import CellEncoder


@dataclass
class Build:
    """One run of `stgraph.data.corpus.build_corpus`, its folder locked and prepared.

    Attributes
    ----------
    folder
        Of the corpus.
    recipe
        How shards are made, but for what only the files tell.
    settings
        What the corpus is built with, as its ``config.json`` has it.
    units
        Files, in order, and the microns per unit of each.
    executor, progress
        As given.
    """

    folder: Path
    recipe: Recipe
    settings: dict[str, Any]
    units: dict[str, float | None]
    executor: Executor | None
    progress: Progress | None

    def run(self, encoder: CellEncoder | None, vocabulary: list[str] | None) -> Manifest:
        """Make what is not there, and the manifest last.

        Parameters
        ----------
        encoder
            To be fitted, or fitted; None where features are in the files.
        vocabulary
            Genes that are kept; None for all that are found.

        Returns
        -------
        Manifest
            Of the corpus.

        Raises
        ------
        InputError
            If files cannot be used, after everything else was built.
        """
        failures: list[str] = []
        notes: dict[str, None] = {}
        standing = Standing(self.folder, self.units)
        records = standing.trusted(self._fingerprint())
        complete = standing.complete_files(records)
        scans = self._scan([path for path in self.units if path not in complete], failures)
        standing.follow_moved(scans, records)
        jobs = self._jobs(scans, records, [*standing.records()])
        self._drop_replaced(jobs)
        self._write_genes(scans, vocabulary)
        width = self._check_width(scans, records, jobs, failures)
        if encoder is not None and jobs:
            self._fit_encoder(encoder, scans, jobs, failures)
        recipe = replace(
            self.recipe, width=width, fingerprint=self._fingerprint(), genes=_prefix(read_genes(self.folder))
        )
        done = sum(len(made) for made in complete.values())
        self._tell("build", done, total := done + sum(len(job.names) for job in jobs))
        for outcome in self._outcomes(partial(make_shards, recipe), jobs, failures):
            done += len(outcome.made)
            notes |= dict.fromkeys(outcome.notes)
            self._tell("build", done, total)
        manifest = None if failures else self._finish(notes)
        for note in notes:
            warnings.warn(note, StgraphWarning, stacklevel=3)
        if manifest is None:
            raise InputError(_listing(failures, done))
        return manifest

    def _scan(self, paths: list[str], failures: list[str]) -> dict[str, Scan]:
        look = Look(self.recipe.slice_key, self.recipe.keep, self.recipe.use_rep)
        scans: dict[str, Scan] = {}
        self._tell("scan", 0, len(paths))
        for number, (path, found) in enumerate(each_done(self.executor, partial(scan, look=look), paths)):
            if isinstance(found, Exception):
                failures.append(f"'{path}': {_reason(found)}")
            else:
                scans[path] = found
            self._tell("scan", number + 1, len(paths))
        return {path: scans[path] for path in paths if path in scans}

    def _jobs(
        self, scans: Mapping[str, Scan], records: Mapping[str, SliceRecord], before: Sequence[SliceRecord]
    ) -> list[Job]:
        # Trusted ones last: a file may have been moved to where another stood.
        kept: dict[Section, str] = {(r.source.path, r.source.section): r.slice_id for r in (*before, *records.values())}
        taken = {record.slice_id: record.source.path for record in before}
        names = name_slices({path: list(found.sections) for path, found in scans.items()}, kept, taken)
        jobs = []
        for path, found in scans.items():
            todo = {section: names[path, section] for section in found.sections if names[path, section] not in records}
            if todo:
                jobs.append(Job(path, self.units[path], todo, list(found.sections)))
        return jobs

    def _drop_replaced(self, jobs: Sequence[Job]) -> None:
        """No manifest while a slice it lists is made again."""
        try:
            listed = {record.slice_id for record in Manifest.load(self.folder).slices}
        except StoreError:
            (self.folder / MANIFEST).unlink(missing_ok=True)
            return
        if listed & {name for job in jobs for name in job.names.values()}:
            (self.folder / MANIFEST).unlink()

    def _write_genes(self, scans: Mapping[str, Scan], vocabulary: list[str] | None) -> None:
        path = self.folder / GENES
        before = read_genes(self.folder) if path.is_file() else []
        if vocabulary is not None:
            after = vocabulary
        else:
            found = {gene for scanned in scans.values() for gene in scanned.genes}
            after = before + sorted(found - set(before))
        if after != before or not path.is_file():
            write_document(path, {"genes": after})

    def _check_width(
        self,
        scans: Mapping[str, Scan],
        records: Mapping[str, SliceRecord],
        jobs: list[Job],
        failures: list[str],
    ) -> int | None:
        """C of the corpus; files of another one fail."""
        if self.recipe.use_rep is None:
            return None
        widths = [record.channels for record in records.values()] or [scans[job.path].width or 0 for job in jobs]
        if not widths:
            return None
        width = max(sorted(set(widths)), key=widths.count)
        for job in list(jobs):
            if scans[job.path].width != width:
                failures.append(
                    f"'{job.path}': obsm['{self.recipe.use_rep}'] has {scans[job.path].width} channels, but those of "
                    f"the corpus have {width}."
                )
                jobs.remove(job)
        return width

    def _fit_encoder(
        self, encoder: CellEncoder, scans: Mapping[str, Scan], jobs: list[Job], failures: list[str]
    ) -> None:
        if (self.folder / ENCODER / "config.json").is_file():
            return
        if not encoder.genes:
            encoder = deepcopy(encoder)  # the caller's stays as it is
            total = sum(sum(found.sections.values()) for found in scans.values())
            share = min(1.0, self.settings["sample_cells"] / max(total, 1))
            asked = [
                replace(job, quota={s: max(2, int(n * share)) for s, n in scans[job.path].sections.items()})
                for job in jobs
            ]
            draw = partial(sample, self.recipe, random_state=self.settings["random_state"])
            samples: dict[str, Any] = {}
            bad = len(failures)
            self._tell("sample", 0, len(asked))
            for number, outcome in enumerate(self._outcomes(draw, asked, failures)):
                samples |= outcome.samples
                self._tell("sample", number + 1, len(asked))
            if len(failures) > bad:
                # They would fail again, and once is enough to be told.
                jobs[:] = [job for job in jobs if all(name in samples for name in job.names.values())]
            if not samples:
                return
            try:
                encoder.fit([samples[name] for name in sorted(samples)])
            except InputError as error:
                raise InputError(
                    f"No encoder can be fitted to these slices together: {error} "
                    "Or take features from the files with --rep KEY (use_rep=), or build a corpus of each kind."
                ) from error
        path = self.folder / ENCODER / "state.safetensors"
        digest = write_arrays(path, encoder.state(), {})
        write_document(path.with_name("config.json"), {"encoder": self.settings["encoder"], "state": digest.sha256})

    def _fingerprint(self) -> str:
        """Of everything that shapes a shard, but its file and the vocabulary."""
        path = self.folder / ENCODER / "config.json"
        state = read_document(path)["state"] if path.is_file() else None
        versions = [CORPUS_VERSION, SHARD_VERSION]
        return fingerprint([versions, self.settings, state])

    def _outcomes(
        self, function: Callable[[Job], Outcome], jobs: Sequence[Job], failures: list[str]
    ) -> Iterator[Outcome]:
        for job, outcome in each_done(self.executor, function, jobs):
            if isinstance(outcome, OSError):
                raise outcome  # of the corpus, not of the file: all that follow would fail like it
            if isinstance(outcome, Exception):
                failures.append(f"'{job.path}': {_reason(outcome)}")
                yield Outcome()
            else:
                failures.extend(outcome.failures)
                yield outcome

    def _finish(self, notes: dict[str, None]) -> Manifest:
        records = Standing(self.folder, self.units).trusted(self._fingerprint())
        lost = sorted({path.stem for path in (self.folder / RECORDS).glob("*.json")} - set(records))
        if lost:
            raise InputError(
                f"The corpus is not complete, for these slices of it are damaged or out of date, and the files given "
                f"now do not hold them: {', '.join(lost)}. Give files that do, or delete "
                f"'{self.folder / RECORDS}/NAME.json' to do without."
            )
        given = {os.path.realpath(path) for path in self.units}
        others = [name for name, r in records.items() if os.path.realpath(r.source.path) not in given]
        kept = [self.folder / CONFIG, *sorted((self.folder / ENCODER).glob("[!.]*"))]
        hashes = {path.relative_to(self.folder).as_posix(): sha256_of(path) for path in kept}
        slices = [records[name] for name in sorted(records)]
        manifest = Manifest(slices, read_genes(self.folder), self.settings, hashes)
        manifest.save(self.folder)
        # Shards without a record: of slices that are no longer wanted, and now not in the manifest either.
        for path in (self.folder / SHARDS).glob("*.safetensors"):
            if path.stem not in records:
                path.unlink()
        if others:
            stay = f"{len(others)} slices of files that are not given now stay in the corpus: {', '.join(others)}."
            notes[stay] = None
        return manifest

    def _tell(self, stage: str, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(stage, done, total)


def _prefix(genes: list[str]) -> dict[str, Any]:
    return {"count": len(genes), "sha256": fingerprint(genes)}


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"


def _listing(failures: Sequence[str], done: int) -> str:
    some = "1 file or slice" if len(failures) == 1 else f"{len(failures)} files or slices"
    return (
        f"The corpus is not complete, for {some} cannot be used, while {done} slices are built. Mend or leave out what "
        "follows, and run again; what is built is kept.\n" + "\n".join(f"  {failure}" for failure in failures)
    )
