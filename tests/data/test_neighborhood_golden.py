"""The release of AIDO.Tissue, bit by bit: counts of three centres with four neighbours, and its tokens of them."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from anndata import AnnData

from stgraph.data.depth_values import BatchDepth
from stgraph.data.neighborhood_sequences import NeighborhoodSequences
from stgraph.graph.neighborhoods import Neighborhoods
from stgraph.preprocess.expressed_genes import expressed_genes
from stgraph.preprocess.gene_list import GeneList


@pytest.fixture
def golden(data_dir):
    with np.load(data_dir / "golden" / "aido_tissue_3m_random.npz") as arrays:
        return dict(arrays)


@pytest.mark.real
def test_tokens_of_the_release_are_reproduced_exactly(golden, data_dir):
    samples, slots, num_genes = golden["shape"]
    sample, slot, gene = golden["count_index"].T
    genes = GeneList.read(data_dir / "gene_vocab" / "OS_scRNA_gene_index.19264.tsv")
    # Cells in an order of their own: all centres first, then the neighbours of each.
    row = np.where(slot == 0, sample, samples + sample * (slots - 1) + slot - 1)
    adata = AnnData(sp.csr_matrix((golden["count_value"], (row, gene)), shape=(samples * slots, num_genes)))
    adata.var_names = list(genes.genes)
    alignment = genes.align_slice(adata)
    index = np.c_[np.arange(samples), samples + np.arange(samples * (slots - 1)).reshape(samples, -1)]
    around = Neighborhoods(index, np.zeros(index.shape))
    tokens = expressed_genes(adata, genes, alignment=alignment)
    cells = NeighborhoodSequences([tokens], [around], [alignment.panel], num_genes=genes.num_genes, depth=BatchDepth())

    batch = cells[np.arange(samples)]
    packed = batch.pack()
    for s in range(samples):
        own = slice(*packed.offsets[s : s + 2])
        real = golden["gene_id"][s] != genes.pad
        source = packed.source[own]
        assert batch.unique.tokens[source].tolist() == golden["gene_id"][s, real].tolist()
        assert packed.slot[own].tolist() == golden["cell_index"][s, real].tolist()
        assert torch.equal(batch.unique.values[source], torch.from_numpy(golden["token_value"][s, real]))
    assert packed.lengths.tolist() == cells.lengths.tolist() == (golden["gene_id"] != genes.pad).sum(axis=1).tolist()
