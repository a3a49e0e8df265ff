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
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path

from stgraph._config import to_config
from stgraph.data.building import Build
from stgraph.data.corpus_folder import check_folder, prepare_folder
from stgraph.data.documents import fingerprint
from stgraph.data.jobs import Progress
from stgraph.data.lock import locked
from stgraph.data.making import Recipe
from stgraph.data.manifest import Manifest
from stgraph.errors import InputError
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
        build = Build(folder, recipe, settings, units, executor, progress)
        return build.run(encoder, vocabulary)


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
