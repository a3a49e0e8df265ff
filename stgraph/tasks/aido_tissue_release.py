"""AIDO.Tissue as it is published, made a model that reads slices."""

import os
from pathlib import Path

from stgraph._config import TARGET
from stgraph.data.depth_values import BatchDepth, CellDepth
from stgraph.errors import CheckpointError, InputError
from stgraph.graph.builders import KNN
from stgraph.graph.neighbor_choice import NearestCells
from stgraph.models.aido_tissue import AIDOTissue
from stgraph.models.aido_tissue_reference import AIDOTissueReference
from stgraph.models.aido_tissue_release import is_aido_release, load_aido_tissue
from stgraph.models.cell_features import CellFeatures
from stgraph.nn.module_config import module_config
from stgraph.preprocess.gene_list import GeneList
from stgraph.preprocess.orthologs import Orthologs
from stgraph.tasks.neighborhood_encoder import NeighborhoodEncoder
from stgraph.tasks.pretrained_model import Pretrained

GENE_LISTS = "gene_list.tsv", "gene_list.tsv.gz", "*gene*index*.tsv"
"""What the table of genes in the folder of the weights is called."""

is_released = is_aido_release


def load_released(
    path: str | os.PathLike[str],
    *,
    gene_list: str | os.PathLike[str] | None = None,
    ensembl_ids: str | os.PathLike[str] | None = None,
    orthologs: str | os.PathLike[str] | None = None,
    n_neighbors: int = 32,
    reference: bool = False,
) -> Pretrained:
    """AIDO.Tissue's published weights as a model that embeds slices.

    Parameters
    ----------
    path
        In the layout of `stgraph.models.aido_tissue_release`, folder or file.
    gene_list
        Table of the 19,264 genes and their numbers, as `GeneList.read` takes it: it is not published with the weights,
        but with scFoundation (``OS_scRNA_gene_index.19264.tsv``). None for the one beside the weights, called
        ``gene_list.tsv``, ``gene_list.tsv.gz`` or ``*gene*index*.tsv``.
    ensembl_ids, orthologs
        Further tables, for slices that go by Ensembl ids and for those of mice, as of `NeighborhoodEncoder`.
    n_neighbors
        How many cells are read with a cell. Both sizes were trained with 32, and with other numbers; which weights were
        published is not said.
    reference
        Compute what the released code does, padding and depth of the batch included, so that the embedding of a cell
        depends on its batch: `AIDOTissueReference` and `BatchDepth`. Else what it means: `AIDOTissue` and `CellDepth`.

    Returns
    -------
    Pretrained
        On the CPU, in eval mode. Saved by `Pretrained.save_pretrained`, it is a model directory like any other, which
        needs none of these files, and carries the licence.

    Raises
    ------
    CheckpointError
        If files are missing, damaged or hold more than tensors, or do not fit each other.

    Warns
    -----
    StgraphWarning
        As of `load_aido_tissue`: what the licence allows, and that the head of a task is left out.

    Examples
    --------
    >>> from stgraph.tasks.aido_tissue_release import load_released
    >>> load_released("ckpt")
    Traceback (most recent call last):
    stgraph.errors.CheckpointError: There is no 'ckpt'.
    """
    path = Path(path)
    network = load_aido_tissue(path, network=AIDOTissueReference if reference else AIDOTissue)
    table = _find_gene_list(path) if gene_list is None else Path(gene_list)
    try:
        genes = GeneList.read(table, ensembl_ids=ensembl_ids)
        # The licence is of these weights, not of those that another fit would draw.
        sizes = {name: value for name, value in module_config(network).items() if name not in ("num_genes", "licence")}
        encoder = NeighborhoodEncoder(
            model={TARGET: sizes.pop(TARGET), **sizes},
            neighbors=NearestCells(n_neighbors),
            depth=BatchDepth() if reference else CellDepth(),
            trainer=None,
        ).with_network(network, genes, None if orthologs is None else Orthologs.read(orthologs))
    except InputError as error:
        raise CheckpointError(f"'{table}' does not fit the weights in '{path}'. {error}") from error
    return Pretrained(
        encoder=encoder,
        builder=KNN(),
        virtual_cells=None,
        model=CellFeatures(network.out_channels).eval(),
        info={"source": "weights in the layout in which AIDO.Tissue is published"},
    )


def _find_gene_list(path: Path) -> Path:
    folder = path.parent if path.is_file() else path
    found = sorted({file for name in GENE_LISTS for file in folder.glob(name)})
    if len(found) != 1:
        there = f"has {len(found)} tables of genes" if found else "has no table of genes"
        raise CheckpointError(
            f"'{folder}' {there}, and AIDO.Tissue's weights are published without theirs: put scFoundation's "
            f"OS_scRNA_gene_index.19264.tsv there as {GENE_LISTS[0]}, one table alone, or say where it is: "
            f"stgraph.from_pretrained({str(path)!r}, gene_list=...)."
        )
    return found[0]
