"""Is a corpus on disk what was written? Every byte and every cell of it."""

import os
from collections.abc import Mapping
from concurrent.futures import Executor
from functools import partial
from pathlib import Path

import numpy as np

from stgraph.data.arrays import sha256_of
from stgraph.data.jobs import Progress, each_done
from stgraph.data.manifest import RECORDS, SHARDS, Manifest, SliceRecord, read_record
from stgraph.data.shards import MEND, Shard, is_symmetric
from stgraph.errors import StgraphError, StoreError


def verify_corpus(
    path: str | os.PathLike[str], executor: Executor | None = None, *, progress: Progress | None = None
) -> list[str]:
    """Read a whole corpus, and compare it to its manifest.

    Parameters
    ----------
    path
        A folder that `stgraph.data.corpus.build_corpus` wrote.
    executor
        As for `build_corpus`.
    progress
        Called as the work goes on, with the stage ``"verify"``.

    Returns
    -------
    list of str
        The problems: files that are missing, not listed, or changed; cells that are missing
        or there twice; edges that lead nowhere, or lack their reverse. None if all is well.

    Raises
    ------
    StoreError
        If there is no corpus, or it is unfinished.

    Examples
    --------
    >>> import tempfile, stgraph
    >>> from stgraph.data.corpus import build_corpus
    >>> from stgraph.data.verify import verify_corpus
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     stgraph.synthetic_tissue(n_cells=200, n_genes=60)[0].write_h5ad(f"{folder}/a.h5ad")
    ...     _ = build_corpus([f"{folder}/a.h5ad"], f"{folder}/corpus")
    ...     verify_corpus(f"{folder}/corpus")
    []
    """
    folder = Path(path)
    manifest = Manifest.load(folder)
    problems = _files(folder, manifest)
    # All slices of one file together, for its cells must be in one of them each.
    by_source: dict[str, list[SliceRecord]] = {}
    for record in manifest.slices:
        by_source.setdefault(record.source.path, []).append(record)
    job = partial(
        _verify_slices, str(folder), whole=manifest.settings.get("keep") is None, num_genes=len(manifest.genes)
    )
    groups = list(by_source.values())
    found: dict[str, list[str]] = {}
    for number, (_, result) in enumerate(each_done(executor, job, groups)):
        if isinstance(result, Exception):
            raise StoreError(f"'{folder}' could not be verified ({type(result).__name__}: {result}).") from result
        found |= result
        if progress is not None:
            progress("verify", number + 1, len(groups))
    return problems + [problem for name in sorted(found) for problem in found[name]]


def _files(folder: Path, manifest: Manifest) -> list[str]:
    """What can be said without opening a shard."""
    listed = {record.shard for record in manifest.slices}
    present = {p.name for p in (folder / SHARDS).glob("*") if not p.name.startswith(".")}
    problems = [
        f"'{folder / SHARDS / name}' is not in the manifest: run 'stgraph corpus build' again."
        for name in sorted(present - listed)
    ]
    for name, sha256 in manifest.files.items():
        if not (folder / name).is_file():
            problems.append(f"'{folder / name}' is missing: build the corpus again.")
        elif sha256_of(folder / name) != sha256:
            problems.append(f"'{folder / name}' has changed since it was written: build the corpus again.")
    for record in manifest.slices:
        path = folder / RECORDS / f"{record.slice_id}.json"
        try:
            same = read_record(path) == record
            problems += (
                [] if same else [f"'{path}' does not agree with the manifest: run 'stgraph corpus build' again."]
            )
        except StoreError as error:
            problems.append(str(error))
    return problems


def _verify_slices(folder: str, records: list[SliceRecord], *, whole: bool, num_genes: int) -> Mapping[str, list[str]]:
    """Problems of the slices of one file, by name of the slice."""
    problems: dict[str, list[str]] = {}
    rows = []
    for record in records:
        try:
            found, row = _verify_shard(Path(folder) / SHARDS / record.shard, record, num_genes)
        except StgraphError as error:
            problems[record.slice_id] = [str(error)]
            continue
        rows.append(row)
        problems[record.slice_id] = found
    source = records[0].source
    if len(rows) == len(records):
        row = np.concatenate(rows)
        seen, times = np.unique(row, return_counts=True)
        told = problems[records[-1].slice_id]
        if (times > 1).any():
            told.append(f"{int((times > 1).sum())} cells of '{source.path}' are there more than once.")
        if len(seen) and not 0 <= seen[0] <= seen[-1] < source.num_rows:
            told.append(f"There are cells of rows that '{source.path}' does not have.")
        complete = {record.source.section for record in records} == set(source.sections)
        if whole and complete and len(seen) != source.num_rows:
            told.append(f"{source.num_rows - len(seen)} cells of '{source.path}' are missing.")
    return problems


def _verify_shard(path: Path, record: SliceRecord, num_genes: int) -> tuple[list[str], np.ndarray]:
    if not path.is_file():
        raise StoreError(f"The shard '{path}' is missing: run 'stgraph corpus build' with the same files again.")
    if path.stat().st_size != record.bytes:
        raise StoreError(
            f"The shard '{path}' has {path.stat().st_size} bytes, not the {record.bytes} it was written with: it is "
            f"truncated or replaced. To mend it, {MEND}."
        )
    shard = Shard(path)
    for part in range(shard.num_parts):
        shard.verify(part)
    problems = []
    if sha256_of(path) != record.sha256:
        problems.append(f"The shard '{path}' is not the one that was written. To mend it, {MEND}.")
    if (len(shard), shard.num_parts, shard.slice_id) != (record.num_cells, record.num_parts, record.slice_id):
        problems.append(f"The shard '{path}' holds another slice than its record tells.")
    if len(shard.arrays["measured"]) and shard.arrays["measured"][-1] >= num_genes:
        problems.append(f"The shard '{path}' has genes beyond the vocabulary.")
    near = shard.graph.near
    if not (np.isfinite(near.data).all() and (near.data >= 0).all()):
        problems.append(f"The shard '{path}' has edges without a length.")
    if record.symmetric and not is_symmetric(near):
        problems.append(f"The shard '{path}' has edges without their reverse.")
    return problems, shard.arrays["row"]
