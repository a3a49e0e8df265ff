"""Gene-level attention along the cell graph, in which every cell is summarised once."""

from dataclasses import replace
from typing import get_args

import torch
from torch import Tensor, nn

from stgraph.data.cell_batch import CellBatch
from stgraph.data.neighborhood_batch import NeighborhoodBatch, PackedNeighborhoods
from stgraph.errors import InputError
from stgraph.graph.arguments import check_whole
from stgraph.models.neighborhood_network import NeighborhoodNetwork, NeighborhoodStates
from stgraph.nn.bert import check_tokens, matrix_std
from stgraph.nn.cell_summaries import CellSummaries
from stgraph.nn.neighbor_keys import NeighborKeys, NeighborPlaces
from stgraph.nn.packed_sequences import Pooling, pool_sequences, positions_of
from stgraph.nn.reading_layer import ReadingLayer, reading_groups
from stgraph.nn.soft_bins import SoftBins
from stgraph.nn.swiglu import Norm, make_norm

_NUM_PLACES = 48
"""Numbers that tell where a neighbour is."""


class CellGraphGenes(NeighborhoodNetwork):
    """Genes of a cell read each other and, in the same softmax, summaries of the cells around it.

    AIDO.Tissue's encoder lets every gene of k + 1 cells attend to every other, for each centre anew: with n genes a
    cell that is ((k + 1) n)^2 products a layer. Here only edges of the graph are kept, from the neighbours to the genes
    of the centre, and what a neighbour shows does not depend on who looks:

    - **Once for each distinct cell**, whoever its neighbours are: its genes are embedded (soft bins of the value, and
      the table of genes), ``num_cell_layers`` layers let them read each other, and `stgraph.nn.cell_summaries` makes
      ``num_summaries`` (M) vectors of them. Keys and values of these in every later layer are projected once, too.
    - **Once for each centre**: in ``num_context_layers`` layers its genes, which went through the layers above as those
      of any other cell, read their own cell and the k M summaries around it, in one softmax, so that each gene weighs
      its own cell against each neighbour. A term of rank and distance is added to the keys and values of a neighbour
      (`stgraph.nn.neighbor_keys.NeighborKeys`).

    A context layer makes n (n + k M) products a head and projects n tokens, whatever k is. With 100 genes and M = 4 its
    arithmetic grows by a quarter from k = 8 to 64, where that of AIDO.Tissue's layers grows 28 times. The first part is
    shared between centres that lie together (`stgraph.data.spatial_batches` makes such batches: of 128 centres with 64
    neighbours each some 4 distinct cells a centre, rather than 65), and over a whole slice it is done once
    (`summarize`, then `embed_centers`). What is lost: genes of two neighbours no longer meet; what the centre learns of
    one passes through M C numbers.

    Cells are shared where each shows the same to all centres: train with
    `stgraph.objectives.masked_columns.MaskedColumns` and ``shared=True``, which hides the same genes from all centres
    of a batch. Where other genes were hidden from each, the result is as exact, but every neighbour is read anew for
    each centre, at the cost of k + 1 cells.

    Parameters
    ----------
    num_genes
        G, of the vocabulary.
    hidden_channels
        C, width of the states and of the embedding; a multiple of ``heads``.
    num_cell_layers
        Layers within cells.
    num_context_layers
        Layers along the graph.
    heads
        H.
    ffn_channels
        Width of the feed-forward networks.
    num_summaries
        M.
    num_bins
        Bins of values.
    norm
        "rms" or "layer".
    pooling
        What stands for a centre: the "max" of its tokens, as in AIDO.Tissue, or their "mean".
    decoder_layers
        Layers in which genes that are asked for read the states of their centre.
    dropout
        Of both branches of each layer.

    Shapes
    ------
    Input: a `stgraph.data.neighborhood_batch.NeighborhoodBatch` of S centres and V distinct cells with U tokens, M of
    them of the centres. Output: ``token`` (M, C), ``offsets`` (S + 1,) and ``center`` (S, C).

    References
    ----------
    GenBio AI. AIDO.Tissue: spatial cell-guided pretraining for scalable spatial transcriptomics foundation model, 2025.
    Jaegle et al. Perceiver: general perception with iterative attention, 2021.

    Examples
    --------
    Two cells that are neighbours, one with genes 2 and 3, the other with gene 4:

    >>> import torch
    >>> from stgraph.data.cell_batch import CellBatch
    >>> from stgraph.data.neighborhood_batch import NeighborhoodBatch, PackedNeighborhoods
    >>> from stgraph.models.cell_graph_genes import CellGraphGenes
    >>> two = CellBatch(torch.tensor([2, 3, 4]), torch.tensor([0, 2, 3]), torch.tensor([7, 8]), torch.ones(3))
    >>> near, far = torch.tensor([[0, 1], [1, 0]]), torch.tensor([[0.0, 9.0], [0.0, 9.0]])
    >>> batch = NeighborhoodBatch(two, near, far, torch.tensor([0, 0]), (torch.arange(5),))
    >>> model = CellGraphGenes(5, hidden_channels=16, ffn_channels=32)
    >>> model(batch).token.shape, model.embed(batch).shape
    (torch.Size([3, 16]), torch.Size([2, 16]))
    """

    def __init__(
        self,
        num_genes: int,
        hidden_channels: int = 128,
        num_cell_layers: int = 2,
        num_context_layers: int = 2,
        heads: int = 2,
        ffn_channels: int = 512,
        num_summaries: int = 4,
        num_bins: int = 100,
        norm: Norm = "rms",
        pooling: Pooling = "max",
        decoder_layers: int = 2,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_genes = num_genes
        self.hidden_channels = hidden_channels
        self.num_cell_layers = num_cell_layers
        self.num_context_layers = num_context_layers
        self.heads = heads
        self.ffn_channels = ffn_channels
        self.num_summaries = num_summaries
        self.num_bins = num_bins
        self.norm: Norm = norm
        self.pooling: Pooling = pooling
        self.decoder_layers = decoder_layers
        self.dropout = dropout
        for name in ("num_genes", "hidden_channels", "heads", "ffn_channels", "num_summaries", "num_bins"):
            check_whole(self, name)
        for name, least in (("num_cell_layers", 0), ("num_context_layers", 1), ("decoder_layers", 1)):
            check_whole(self, name, least)
        if pooling not in get_args(Pooling):
            raise InputError(f"pooling must be one of {', '.join(get_args(Pooling))}, not {pooling!r}.")
        self.out_channels = hidden_channels

        def layers(count: int) -> nn.ModuleList:
            return nn.ModuleList(
                ReadingLayer(hidden_channels, heads, ffn_channels, norm, dropout) for _ in range(count)
            )

        self.value_embedding = SoftBins(hidden_channels, num_bins)
        self.gene_embedding = nn.Embedding(self.vocabulary_size, hidden_channels)
        self.cell_layers = layers(num_cell_layers)
        self.summaries = CellSummaries(hidden_channels, heads, ffn_channels, num_summaries, norm, dropout)
        self.context_layers = layers(num_context_layers)
        self.neighbor_keys = nn.ModuleList(
            NeighborKeys(hidden_channels, heads, _NUM_PLACES, norm) for _ in range(num_context_layers)
        )
        self.last_norm = make_norm(norm, hidden_channels)
        self.start = nn.Sequential(make_norm(norm, hidden_channels), nn.Linear(hidden_channels, hidden_channels))
        self.decoder = layers(decoder_layers)
        self.head = nn.Sequential(
            make_norm(norm, hidden_channels),
            nn.Linear(hidden_channels, hidden_channels),
            nn.GELU(),
            nn.Linear(hidden_channels, 1),
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw matrices so that any width has the same gain; the small network of values as torch does."""
        std = matrix_std(self.hidden_channels)
        of_values = {self.value_embedding.linear1, self.value_embedding.linear2}
        for module in self.modules():
            if isinstance(module, nn.Linear) and module not in of_values:
                nn.init.normal_(module.weight, std=std)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=std)

    def forward(self, batch: NeighborhoodBatch) -> NeighborhoodStates:
        """States of the centres."""
        if batch.packed is not None:
            batch = _unshared(batch, batch.packed)
        states, summaries = self._read(batch.unique)
        center = batch.neighbors[:, 0]
        lengths = batch.unique.lengths[center]
        own = states.index_select(0, positions_of(batch.unique.offsets[center], lengths))
        return self._in_context(own, lengths, summaries, batch.neighbors[:, 1:], batch.distance[:, 1:])

    def summarize(self, cells: CellBatch) -> Tensor:
        """(V, M, C) what cells show to those around them; it depends on nothing but the cell.

        With `embed_centers` a whole slice is read at a cost per cell that does not depend on how many of its neighbours
        are in the same batch.
        """
        return self._read(cells)[1]

    def embed_centers(self, centers: CellBatch, summaries: Tensor, neighbors: Tensor, distance: Tensor) -> Tensor:
        """(S, out_channels) embeddings of cells among neighbours that are summarised already.

        Parameters
        ----------
        centers
            S cells.
        summaries
            (V, M, C) of `summarize`, of a whole slice for instance.
        neighbors
            (S, K) int64, rows of ``summaries``, nearest first; -1 where there is none.
        distance
            (S, K), how far they are.
        """
        return self._in_context(self._read(centers)[0], centers.lengths, summaries, neighbors, distance).center

    def predict_hidden(self, states: NeighborhoodStates, batch: NeighborhoodBatch) -> Tensor:
        """(n,) values of the hidden genes; each that is asked for reads the states of its centre.

        Unlike AIDO.Tissue's decoder it computes nothing for genes that nobody asks for, so that its cost does not grow
        with the panel.

        Raises
        ------
        InputError
            If no genes of the batch are hidden.
        """
        if batch.hidden is None:
            raise InputError("No genes of this batch were hidden, so there is nothing to predict.")
        hidden = batch.hidden
        by_row = hidden.row.argsort(stable=True)
        asked = torch.bincount(hidden.row, minlength=batch.num_cells)
        lengths = states.offsets.diff()
        rows, sizes = reading_groups(asked, lengths, torch.zeros_like(asked))
        source = states.token.index_select(0, positions_of(states.offsets[rows], lengths[rows]))
        order = by_row[positions_of((asked.cumsum(0) - asked)[rows], asked[rows])]
        x = self.gene_embedding(hidden.gene[order]) + self.value_embedding.mask_vector
        # What stands for the centre as a beginning: from means of attention alone, training may not get off the ground.
        x = x + self.start(states.center).index_select(0, hidden.row[order])
        for layer in self.decoder:
            x = layer(x, sizes, source=source)
        values: Tensor = self.head(x)[:, 0]
        return values.index_select(0, order.argsort())

    def _read(self, cells: CellBatch) -> tuple[Tensor, Tensor]:
        """States (U, C) of the genes of cells that read each other, and the summaries (V, M, C) of the cells."""
        if cells.values is None:
            raise InputError("CellGraphGenes reads values: tokenise the cells with their values.")
        check_tokens(cells.tokens, self.vocabulary_size)
        lengths = cells.lengths
        rows, sizes = reading_groups(lengths, lengths, torch.zeros_like(lengths))
        order = positions_of(cells.offsets[rows], lengths[rows])
        genes, values = cells.tokens[order], cells.values[order]
        of_gene = self.gene_embedding(genes)
        x: Tensor = of_gene + self.value_embedding(values)
        for layer in self.cell_layers:
            x = layer(x, sizes)
        # Depth tokens are no genes: what they say is in their states.
        weighted = of_gene * (values * (genes < self.num_genes))[:, None]
        total = torch.segment_reduce(weighted.float(), "sum", lengths=lengths[rows], axis=0)
        summaries = self.summaries(x, total, tuple((n, length) for n, length, *_ in sizes))
        return x.index_select(0, order.argsort()), summaries.index_select(0, rows.argsort())

    def _in_context(
        self, own: Tensor, lengths: Tensor, summaries: Tensor, neighbors: Tensor, distance: Tensor
    ) -> NeighborhoodStates:
        """States of centres from those (M, C) of their genes, and from the summaries of their neighbours."""
        present = (neighbors >= 0).sum(dim=1)
        rows, sizes = reading_groups(lengths, lengths, present * self.num_summaries)
        offsets = nn.functional.pad(lengths.cumsum(0), (1, 0))
        order = positions_of(offsets[rows], lengths[rows])
        places = NeighborPlaces.of(neighbors[rows], distance[rows], _NUM_PLACES)
        x = own.index_select(0, order)
        for layer, keys in zip(self.context_layers, self.neighbor_keys, strict=True):
            x = layer(x, sizes, beside=keys(summaries, places))
        token: Tensor = self.last_norm(x).index_select(0, order.argsort())
        return NeighborhoodStates(token, offsets, pool_sequences(token, offsets, self.pooling))


def _unshared(batch: NeighborhoodBatch, packed: PackedNeighborhoods) -> NeighborhoodBatch:
    """The same neighbourhoods with a cell of its own at each place, which has the tokens that were left there."""
    cells, there = batch.unique, batch.neighbors >= 0
    place = packed.row_of_token * batch.num_slots + packed.slot
    lengths = torch.bincount(place, minlength=there.numel())[there.flatten()]
    assert cells.values is not None
    own = CellBatch(
        tokens=cells.tokens[packed.source],
        offsets=nn.functional.pad(lengths.cumsum(0), (1, 0)),
        cell=cells.cell[batch.neighbors[there]],
        values=cells.values[packed.source],
    )
    numbers = (there.flatten().cumsum(0) - 1).view_as(there)
    return replace(batch, unique=own, neighbors=torch.where(there, numbers, -1), packed=None)
