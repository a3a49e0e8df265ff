"""From files to shards: what the workers of a corpus build do. Nothing here imports torch."""

import errno
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from anndata.io import read_elem
from h5py import File
from numpy.typing import NDArray

from stgraph import _keys
from stgraph.data.arrays import sha256_of
from stgraph.data.documents import write_document
from stgraph.data.manifest import ENCODER, RECORDS, SHARDS, SliceRecord, Source, read_encoder, read_genes
from stgraph.data.shards import Shard
from stgraph.data.writing import ShardContent, write_shard
from stgraph.errors import InputError, StgraphError, StgraphWarning
from stgraph.graph.build import graph_of
from stgraph.graph.builders import GraphBuilder
from stgraph.graph.virtual_cells import VirtualCellBuilder
from stgraph.io.read import read
from stgraph.partition.base import Partitioner

_MOST_LABELS = 10_000
"""Different values of a label column from which on it is no label."""

_NOT_WRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
"""No fault of the file that is read."""


@dataclass(frozen=True)
class Recipe:
    """What shapes the shards of a corpus, beside the files.

    Attributes
    ----------
    folder
        Of the corpus, with its vocabulary and its encoder.
    builder, virtual_cells, partitioner, use_rep, slice_key, layer, keep, obs_columns
        As in `stgraph.data.corpus.build_corpus`.
    width
        C that every slice must have; None if an encoder sees to it.
    fixed
        Whether genes outside the vocabulary are left out.
    fingerprint
        Of all this and the encoder.
    genes
        Length and hash of the vocabulary.
    """

    folder: str
    builder: GraphBuilder
    virtual_cells: VirtualCellBuilder | None
    partitioner: Partitioner
    use_rep: str | None
    slice_key: str | None
    layer: str | None
    keep: str | None
    obs_columns: tuple[str, ...]
    width: int | None = None
    fixed: bool = False
    fingerprint: str = ""
    genes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """Slices of one file.

    Attributes
    ----------
    path
        The file.
    um_per_unit
        As in `stgraph.io.read.read`.
    names
        For each slice to make, as it is called in the file, its name in the corpus.
    sections
        What all slices of the file are called in it.
    quota
        For each slice to sample, how many cells.
    """

    path: str
    um_per_unit: float | None
    names: dict[str, str]
    sections: list[str]
    quota: dict[str, int] = field(default_factory=dict)


@dataclass
class Outcome:
    """What came of a job.

    Attributes
    ----------
    made
        Names of the slices that were made.
    samples
        Cells by slice, if that was the job.
    failures
        What went wrong, each naming the file.
    notes
        What the user should know.
    """

    made: list[str] = field(default_factory=list)
    samples: dict[str, AnnData] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def make_shards(recipe: Recipe, job: Job) -> Outcome:
    """Make the shards of some slices of one file, and a record of each after it.

    Parameters
    ----------
    recipe
        How.
    job
        Of what.

    Returns
    -------
    Outcome
        A slice that fails does not stop the others.

    Raises
    ------
    OSError
        If there is no room for what is made.
    """
    outcome = Outcome()
    folder = Path(recipe.folder)
    with _kept(outcome, job), _noted(outcome):
        before = Path(job.path).stat()
        sha256 = sha256_of(job.path)
        vocabulary = pd.Index(read_genes(folder))
        encoder = None if recipe.use_rep else read_encoder(folder / ENCODER, trusted=None)
        for section, adata, row, num_rows in _sections(recipe, job):
            after = Path(job.path).stat()
            if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
                raise InputError("it changed while it was read: run again when it is complete.")
            name = job.names[section]
            source = Source(
                path=job.path,
                bytes=before.st_size,
                mtime_ns=before.st_mtime_ns,
                sha256=sha256,
                num_rows=num_rows,
                section=section,
                sections=job.sections,
                um_per_unit=job.um_per_unit,
            )
            with _kept(outcome, job, name):
                x = _features(adata, recipe) if encoder is None else encoder.transform(adata)
                content = _content(adata, x, row, name, vocabulary, recipe, source)
                _write(folder, content, recipe, source)
                outcome.made.append(name)
    return outcome


def sample(recipe: Recipe, job: Job, random_state: int) -> Outcome:
    """Draw some cells of the slices of one file.

    Parameters
    ----------
    recipe
        How the files are read.
    job
        Which slices, and how many cells of each.
    random_state
        Seed; each slice has its own, so that the draw does not depend on the others.

    Returns
    -------
    Outcome
        Counts and positions of the cells.
    """
    outcome = Outcome()
    # What there is to say is said when the shards are made.
    with _kept(outcome, job), _noted(Outcome()):
        for section, adata, _, _ in _sections(recipe, job):
            name = job.names[section]
            rng = np.random.default_rng([random_state, *name.encode()])
            size = min(job.quota[section], adata.n_obs)
            cells = np.sort(rng.choice(adata.n_obs, size=size, replace=False))
            outcome.samples[name] = AnnData(
                X=adata.X[cells],
                obs=adata.obs[[_keys.SLICE]].iloc[cells],
                var=adata.var[[]],
                obsm={_keys.SPATIAL: adata.obsm[_keys.SPATIAL][cells]},
                uns={_keys.STGRAPH: dict(adata.uns[_keys.STGRAPH])},
            )
    return outcome


def _sections(recipe: Recipe, job: Job) -> Iterator[tuple[str, AnnData, NDArray[np.int64], int]]:
    """Each slice to make: what it is called in the file, its cells, their rows, the rows of the file."""
    adata = read(
        job.path, um_per_unit=job.um_per_unit, slice_key=recipe.slice_key, layer=recipe.layer, keep=recipe.keep
    )
    row, num_rows = np.arange(adata.n_obs), adata.n_obs
    if recipe.keep is not None:
        with File(job.path, "r") as file:
            everyone = read_elem(file["obs"]).index
        row, num_rows = np.flatnonzero(everyone.isin(adata.obs_names)), len(everyone)
    section_of = adata.obs[_keys.SLICE].astype(str).to_numpy()
    for section, name in job.names.items():
        inside = section_of == section
        part = adata if inside.all() else adata[inside].copy()
        part.obs[_keys.SLICE] = pd.Categorical([name] * part.n_obs)
        yield section, part, row[inside], num_rows


def _features(adata: AnnData, recipe: Recipe) -> NDArray[np.float32]:
    stored = adata.obsm[recipe.use_rep]
    x = np.asarray(stored.toarray() if sp.issparse(stored) else stored)
    if x.ndim != 2 or not np.issubdtype(x.dtype, np.number) or not np.isfinite(x).all():
        raise InputError(f"obsm['{recipe.use_rep}'] must hold finite numbers, (cells, channels).")
    if x.shape[1] != recipe.width:
        raise InputError(
            f"obsm['{recipe.use_rep}'] has {x.shape[1]} channels, but those of the corpus have {recipe.width}."
        )
    return x.astype(np.float32)


def _content(
    adata: AnnData,
    x: NDArray[np.float32],
    row: NDArray[np.int64],
    name: str,
    vocabulary: pd.Index,
    recipe: Recipe,
    source: Source,
) -> ShardContent:
    graph = graph_of(adata, x, builder=recipe.builder, virtual_cells=recipe.virtual_cells)
    labels, categories = _labels(adata, recipe.obs_columns, name)
    counts, measured = _in_vocabulary(adata, vocabulary, name, fixed=recipe.fixed)
    return ShardContent(
        graph=graph,
        membership=recipe.partitioner(graph).membership,
        counts=counts,
        measured=measured,
        row=row,
        names=adata.obs_names.tolist(),
        labels=labels,
        categories=categories,
        # Not where it lies, nor when it was changed: the same content gives the same shard everywhere.
        source={"file": Path(source.path).name, "sha256": source.sha256, "section": source.section},
    )


def _write(folder: Path, content: ShardContent, recipe: Recipe, source: Source) -> None:
    graph = content.graph
    path = folder / SHARDS / f"{graph.slice_id}.safetensors"
    digest = write_shard(path, content)
    shard = Shard(path)
    record = SliceRecord(
        slice_id=graph.slice_id,
        bytes=digest.bytes,
        sha256=digest.sha256,
        num_cells=len(graph),
        num_edges=int(graph.near.nnz),
        num_parts=shard.num_parts,
        num_virtual=0 if graph.virtual is None else len(graph.virtual),
        num_counts=int(content.counts.nnz),
        channels=graph.x.shape[1],
        unit=graph.unit,
        symmetric=bool(shard.metadata["symmetric"]),
        categories={column: list(values) for column, values in content.categories.items()},
        seal=shard.seal,
        recipe=recipe.fingerprint,
        genes=dict(recipe.genes),
        source=source,
    )
    write_document(folder / RECORDS / f"{graph.slice_id}.json", asdict(record))


def _in_vocabulary(
    adata: AnnData, vocabulary: pd.Index, name: str, *, fixed: bool
) -> tuple[sp.csr_matrix, NDArray[np.int64]]:
    """Counts with columns as in the vocabulary, and the columns that were measured."""
    number = vocabulary.get_indexer(adata.var_names)
    known = number >= 0
    if not known.any():
        raise InputError(
            f"none of its genes is in the vocabulary (its first is '{adata.var_names[0]}', the vocabulary's "
            f"'{vocabulary[0]}'): use the same kind of gene name."
        )
    if not known.all():
        missing = adata.var_names[~known]
        if not fixed:
            raise InputError(f"its gene '{missing[0]}' is not in the vocabulary: it changed since the build began.")
        warnings.warn(
            f"{name}: {len(missing)} of its {adata.n_vars} genes are not in the given vocabulary and are left out.",
            StgraphWarning,
            stacklevel=2,
        )
    counts = sp.csr_matrix(adata.X)
    counts = counts if known.all() else counts[:, known]
    column = number[known]
    moved = sp.csr_matrix((counts.data, column[counts.indices], counts.indptr), shape=(adata.n_obs, len(vocabulary)))
    return moved, np.sort(column)


def _labels(adata: AnnData, columns: Sequence[str], name: str) -> tuple[NDArray[np.int32], dict[str, list[str]]]:
    codes = np.full((adata.n_obs, len(columns)), -1, dtype=np.int32)
    categories: dict[str, list[str]] = {}
    for number, column in enumerate(columns):
        categories[column] = []
        if column not in adata.obs:
            warnings.warn(f"{name}: obs has no column '{column}', so its cells have no such label.", StgraphWarning, 2)
            continue
        values = adata.obs[column]
        texts = pd.Categorical(values.astype(str).where(values.notna(), None))
        if len(texts.categories) > _MOST_LABELS:
            raise InputError(
                f"obs['{column}'] has {len(texts.categories)} different values, more than {_MOST_LABELS}: "
                "it does not look like a label."
            )
        codes[:, number], categories[column] = texts.codes, [str(label) for label in texts.categories]
    return codes, categories


@contextmanager
def _kept(outcome: Outcome, job: Job, name: str | None = None) -> Iterator[None]:
    """Keep what goes wrong, with the file it went wrong in."""
    whose = f"'{job.path}'" if name is None or len(job.sections) == 1 else f"'{job.path}', slice '{name}'"
    try:
        yield
    except StgraphError as error:
        outcome.failures.append(f"{whose}: {error}")
    except OSError as error:
        if error.errno in _NOT_WRITABLE:
            raise
        outcome.failures.append(f"{whose}: {error}")
    except MemoryError:
        outcome.failures.append(f"{whose}: it does not fit into memory: use fewer workers.")
    except Exception as error:  # a part of the researcher's own may raise anything, and must not lose the others
        outcome.failures.append(f"{whose}: {type(error).__name__}: {error}")


@contextmanager
def _noted(outcome: Outcome) -> Iterator[None]:
    """Keep warnings for the user, who does not see those of another process."""
    if threading.current_thread() is not threading.main_thread():
        # Filters are those of all threads; here the user sees warnings without us.
        yield
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", StgraphWarning)
        try:
            yield
        finally:
            outcome.notes.extend(str(warning.message) for warning in caught)
