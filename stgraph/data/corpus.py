"""From many files to a corpus on disk: in parallel, and resumable after an end at any moment.

A corpus is a folder:

=======================  ==================================================================
``manifest.json``        all there is; written last, so only a complete corpus has one
``config.json``          what it is built with
``genes.json``           the vocabulary
``encoder/``             the cell encoder, fitted once
``shards/NAME.*``        one file for each slice, see `stgraph.data.shards`
``records/NAME.json``    what the shard is made of; written after it
=======================  ==================================================================
"""

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from stgraph._config import to_config
from stgraph.data.arrays import sha256_of, write_arrays
from stgraph.data.corpus_folder import check_folder, prepare_folder
from stgraph.data.documents import fingerprint, read_document, write_document
from stgraph.data.jobs import Progress, each_done
from stgraph.data.lock import locked
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
from stgraph.graph.builders import KNN, GraphBuilder
from stgraph.graph.virtual_cells import JointLeiden, VirtualCellBuilder
from stgraph.partition.base import Partitioner
from stgraph.partition.metis import Metis
from stgraph.preprocess.encoder import CellEncoder, LogPCA

SAMPLE_CELLS = 100_000
"""Cells that the encoder is fitted to."""

_DEFAULT_BUILDER = KNN()
_DEFAULT_VIRTUAL = JointLeiden()
_DEFAULT_PARTITIONER = Metis()


def build_corpus(
    files: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    executor: Executor | None = None,
    builder: GraphBuilder = _DEFAULT_BUILDER,
    virtual_cells: VirtualCellBuilder | None = _DEFAULT_VIRTUAL,
    partitioner: Partitioner = _DEFAULT_PARTITIONER,
    encoder: CellEncoder | None = None,
    use_rep: str | None = None,
    um_per_unit: float | Mapping[str, float] | None = None,
    slice_key: str | None = None,
    layer: str | None = None,
    keep: str | None = None,
    obs_columns: Sequence[str] = (),
    genes: Sequence[str] | None = None,
    sample_cells: int = SAMPLE_CELLS,
    random_state: int = 0,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Manifest:
    """Build a corpus, or go on with one, or add slices to one.

    A slice that stands in the corpus already, from the same file with the same settings, is
    not made again; slices of files that are not given now stay. A build may be killed at
    any moment: run it again.

    Parameters
    ----------
    files
        h5ad files with raw counts and ``obsm["spatial"]``, each with one slice or several.
    out
        The folder of the corpus.
    executor
        Any `concurrent.futures.Executor`: of threads, of processes, or that of a dask
        client (``client.get_executor()``), whose workers must see the same folders. The
        calling thread without one. A worker holds one file at a time in memory.
    builder, virtual_cells, partitioner
        As in `stgraph.fit`.
    encoder
        Counts to features: `LogPCA` without. Fitted once, to a sample of the cells of all
        slices, unless it is fitted already; kept with the corpus, and used as it is for
        slices that are added later.
    use_rep
        Key of ``obsm`` with features, instead of an encoder.
    um_per_unit
        Microns per unit of the coordinates: one number, or by file name without suffix.
    slice_key, layer, keep
        As in `stgraph.read`.
    obs_columns
        Columns of ``obs`` to keep as labels.
    genes
        The vocabulary; genes of a slice that are not in it are left out, with a
        `StgraphWarning`. Without, it is the genes of all slices, sorted, and those that
        later slices bring are added behind, so that numbers never change.
    sample_cells
        Cells the encoder is fitted to, but two of each slice at least.
    random_state
        Seed of the sample, and of the default encoder.
    overwrite
        Start anew, whatever stands in the folder.
    progress
        Called as the work goes on.

    Returns
    -------
    Manifest
        What the corpus holds.

    Raises
    ------
    InputError
        If a setting or name cannot be used, the settings differ from those the folder was
        built with, another process writes it, or files cannot be used: the error then
        lists all of these, after everything else was built.
    OSError
        If the folder cannot be written, for example because the disk is full.

    Examples
    --------
    >>> import tempfile, stgraph
    >>> from stgraph.data.corpus import build_corpus
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for adata in stgraph.synthetic_tissue(n_cells=200, n_genes=60, n_slices=2):
    ...         adata.write_h5ad(f"{folder}/{adata.obs['slice_id'].iloc[0]}.h5ad")
    ...     files = [f"{folder}/synthetic_{i}.h5ad" for i in range(2)]
    ...     manifest = build_corpus(files, f"{folder}/corpus")
    >>> [record.slice_id for record in manifest.slices], manifest.num_cells
    (['synthetic_0', 'synthetic_1'], 400)
    """
    paths = _checked_files(files)
    if encoder is not None and use_rep is not None:
        raise InputError("Features come from an encoder or from use_rep (--rep), not from both.")
    if sample_cells < 1:
        raise InputError(f"sample_cells must be positive, not {sample_cells}.")
    if encoder is None and use_rep is None:
        encoder = LogPCA(random_state=random_state)
    vocabulary = None if genes is None else _checked_genes(genes)
    folder = Path(out).absolute()
    recipe = Recipe(
        folder=str(folder),
        builder=builder,
        virtual_cells=virtual_cells,
        partitioner=partitioner,
        use_rep=use_rep,
        slice_key=slice_key,
        layer=layer,
        keep=keep,
        obs_columns=tuple(dict.fromkeys(obs_columns)),
        fixed=vocabulary is not None,
    )
    settings = {
        "builder": to_config(builder),
        "virtual_cells": to_config(virtual_cells),
        "partitioner": to_config(partitioner),
        "encoder": to_config(encoder),
        "fitted_encoder": _state_hash(encoder) if encoder is not None and encoder.genes else None,
        "use_rep": use_rep,
        "slice_key": slice_key,
        "layer": layer,
        "keep": keep,
        "obs_columns": list(dict.fromkeys(obs_columns)),
        "genes": None if vocabulary is None else fingerprint(vocabulary),
        "sample_cells": sample_cells,
        "random_state": random_state,
    }
    units = {path: _unit(path, um_per_unit) for path in paths}
    check_folder(folder, paths)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        prepare_folder(folder, settings, overwrite=overwrite)
        build = _Build(folder, recipe, settings, units, executor, progress)
        return build.run(encoder, vocabulary)


@dataclass
class _Build:
    """One run, its folder locked and prepared."""

    folder: Path
    recipe: Recipe
    settings: dict[str, Any]
    units: dict[str, float | None]
    executor: Executor | None
    progress: Progress | None

    def run(self, encoder: CellEncoder | None, vocabulary: list[str] | None) -> Manifest:
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


def _checked_files(files: Sequence[str | os.PathLike[str]]) -> list[str]:
    paths = list(dict.fromkeys(os.path.normpath(Path(file).absolute()) for file in files))
    if not paths:
        raise InputError("No slice file was given.")
    real: dict[str, str] = {}
    for path in paths:
        other = real.setdefault(os.path.realpath(path), path)
        if other != path:
            raise InputError(f"'{other}' and '{path}' are the same file: give it once.")
    return paths


def _checked_genes(genes: Sequence[str]) -> list[str]:
    vocabulary = [str(gene) for gene in genes]
    if not vocabulary or len(set(vocabulary)) < len(vocabulary):
        repeated = next((gene for i, gene in enumerate(vocabulary) if gene in vocabulary[:i]), None)
        raise InputError(
            "The vocabulary has no genes." if repeated is None else f"The vocabulary names '{repeated}' more than once."
        )
    return vocabulary


def _unit(path: str, um_per_unit: float | Mapping[str, float] | None) -> float | None:
    return um_per_unit.get(Path(path).stem) if isinstance(um_per_unit, Mapping) else um_per_unit


def _state_hash(encoder: CellEncoder) -> str:
    state = encoder.state()
    return fingerprint({name: [str(a.dtype), list(a.shape), a.tobytes().hex()] for name, a in state.items()})


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
