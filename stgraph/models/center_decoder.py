"""The decoder of AIDO.Tissue: all genes of the centre, those it does not express too, and none of its neighbours."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stgraph.graph.arguments import check_whole
from stgraph.nn.packed_attention import SequenceGroups
from stgraph.nn.rotary import rotation
from stgraph.nn.swiglu import Norm, PreNormLayer, make_norm


class CenterGenes(NamedTuple):
    """Some genes of the centres of a batch, as two vectors of one length.

    Attributes
    ----------
    row
        (n,) int64, which centre.
    gene
        (n,) int64, which gene.
    """

    row: Tensor
    gene: Tensor


class CenterDecoder(nn.Module):
    """States of what was seen of a cell, and vectors for what was hidden and for what is not expressed, to values.

    Parameters
    ----------
    in_channels
        Width of the states that are given.
    channels, heads, ffn_channels, num_layers
        Of the layers; ``num_layers`` may be 0, and then a value is told from its gene alone.
    norm
        As for `stgraph.nn.swiglu.PreNormLayer`.
    dropout
        Of its branches.

    Shapes
    ------
    Input: (n, in_channels) for each of three kinds of genes. Output: (n,) values of the hidden ones.

    References
    ----------
    GenBio AI. AIDO.Tissue: spatial cell-guided pretraining for scalable spatial transcriptomics foundation model, 2025.
    Hao et al., Large-scale foundation model on single-cell transcriptomics (2024), whose decoder this is.

    Examples
    --------
    >>> import torch
    >>> from stgraph.models.center_decoder import CenterDecoder, CenterGenes
    >>> seen = CenterGenes(torch.tensor([0, 1]), torch.tensor([3, 5]))
    >>> hidden = CenterGenes(torch.tensor([0]), torch.tensor([5]))
    >>> absent = CenterGenes(torch.tensor([1, 1]), torch.tensor([3, 4]))
    >>> x = torch.randn(5, 16)
    >>> CenterDecoder(16, 8, heads=2, ffn_channels=16)(x[:2], x[2:3], x[3:], seen, hidden, absent, num_cells=2).shape
    torch.Size([1])
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        heads: int,
        ffn_channels: int,
        num_layers: int = 2,
        norm: Norm = "rms",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.head_channels = channels // max(heads, 1)
        self.embed = nn.Linear(in_channels, channels)
        self.layers = nn.ModuleList(
            PreNormLayer(channels, heads, ffn_channels, norm, dropout) for _ in range(num_layers)
        )
        self.norm = make_norm(norm, channels)
        self.head = nn.Sequential(nn.Linear(channels, channels), nn.SiLU(), nn.Linear(channels, 1))

    def forward(
        self,
        seen: Tensor,
        hidden: Tensor,
        absent: Tensor,
        seen_genes: CenterGenes,
        hidden_genes: CenterGenes,
        absent_genes: CenterGenes,
        *,
        num_cells: int,
    ) -> Tensor:
        """Values of the hidden genes, in their order.

        Parameters
        ----------
        seen, hidden, absent
            (n, in_channels) vectors of the genes that are seen, hidden and not expressed, those of the gene added.
        seen_genes, hidden_genes, absent_genes
            Whose they are.
        num_cells
            S.
        """
        kinds = (hidden_genes, seen_genes, absent_genes)  # hidden first, so that each centre begins with them
        row = torch.cat([genes.row for genes in kinds])
        order = row.argsort(stable=True)
        lengths = torch.bincount(row, minlength=num_cells)
        asked = torch.bincount(hidden_genes.row, minlength=num_cells)
        groups = SequenceGroups.of(_offsets(asked), _offsets(lengths))
        if groups.key_order is not None:
            order = order.index_select(0, groups.key_order)
        x = self.embed(torch.cat([hidden, seen, absent])).index_select(0, order)
        gene = torch.cat([genes.gene for genes in kinds]).index_select(0, order)
        turned = rotation(gene, torch.zeros_like(gene), self.head_channels)
        at = (order < len(hidden)).nonzero()[:, 0]
        if len(self.layers) == 0:
            x = x.index_select(0, at)
        for number, layer in enumerate(self.layers, start=1):
            if number < len(self.layers):
                x = layer(x, tuple((n, length, length) for n, _, length in groups.sizes), turned)
            else:
                x = layer(x, groups.sizes, turned, x.index_select(0, at), turned.index_select(0, at))
        values: Tensor = self.head(self.norm(x))[:, 0]
        return torch.empty_like(values).index_copy(0, order.index_select(0, at), values)


def absent_genes(
    seen: CenterGenes, hidden: CenterGenes, panel: Tensor, panels: tuple[Tensor, ...], num_genes: int
) -> CenterGenes:
    """Genes that were measured, and are neither seen nor hidden: those that are not expressed.

    Parameters
    ----------
    seen, hidden
        Of the centres.
    panel
        (S,) int64, which panel each centre was measured with.
    panels
        Genes of each.
    num_genes
        G; tokens from there on are none.

    Returns
    -------
    CenterGenes
        By centre, then by gene.

    Examples
    --------
    >>> import torch
    >>> from stgraph.models.center_decoder import CenterGenes, absent_genes
    >>> seen, hidden = (CenterGenes(torch.tensor([0]), torch.tensor([gene])) for gene in (1, 3))
    >>> absent_genes(seen, hidden, torch.tensor([0]), (torch.tensor([1, 3, 4, 6]),), 7).gene.tolist()
    [4, 6]
    """
    measured = torch.zeros(len(panels), num_genes, dtype=torch.bool, device=panel.device)
    for number, genes in enumerate(panels):
        measured[number, genes] = True
    rest = measured[panel]
    for row, gene in (seen, hidden):
        is_gene = gene < num_genes
        rest[row[is_gene], gene[is_gene]] = False
    return CenterGenes(*rest.nonzero(as_tuple=True))


def spread_sample(genes: CenterGenes, most: int, num_cells: int, *, shifted: bool = False) -> CenterGenes:
    """At most so many genes of each centre, spread evenly over those there are.

    Parameters
    ----------
    genes
        By centre.
    most
        How many of a centre are kept.
    num_cells
        S.
    shifted
        Begin anywhere, by torch's default generator, so that each gene has its turn; else always the same are kept.

    Returns
    -------
    CenterGenes
        In their order.

    Examples
    --------
    >>> import torch
    >>> from stgraph.models.center_decoder import CenterGenes, spread_sample
    >>> spread_sample(CenterGenes(torch.zeros(6, dtype=torch.int64), torch.arange(6)), 3, 1).gene.tolist()
    [1, 3, 5]
    """
    count = torch.bincount(genes.row, minlength=num_cells)
    begin = count.cumsum(0) - count
    of_row = count[genes.row]
    rank = torch.arange(len(genes.row), device=of_row.device) - begin[genes.row]
    if shifted:
        start = (torch.rand(num_cells, device=of_row.device) * count).long()
        rank = (rank + start[genes.row]) % of_row.clamp(min=1)
    kept = (of_row <= most) | ((rank + 1) * most // of_row > rank * most // of_row)
    return CenterGenes(genes.row[kept], genes.gene[kept])


def _offsets(lengths: Tensor) -> Tensor:
    return F.pad(lengths.cumsum(0), (1, 0))


def check_zeros(owner: object, name: str) -> None:
    """Refuse a number of genes that is neither None nor a whole number from 0 on.

    Raises
    ------
    InputError
        If it is something else.
    """
    if getattr(owner, name) is not None:
        check_whole(owner, name, least=0)
