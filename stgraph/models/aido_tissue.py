"""AIDO.Tissue: the genes of a cell and of the cells around it, read together by one transformer."""

from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stgraph.data.cell_batch import CellBatch
from stgraph.data.neighborhood_batch import NeighborhoodBatch
from stgraph.errors import InputError
from stgraph.graph.arguments import check_whole
from stgraph.models.center_decoder import CenterDecoder, CenterGenes, absent_genes, check_zeros, spread_sample
from stgraph.models.neighborhood_network import NeighborhoodNetwork, NeighborhoodStates
from stgraph.nn.bert import check_tokens, matrix_std
from stgraph.nn.packed_attention import SequenceGroups
from stgraph.nn.packed_sequences import Pooling, pool_sequences
from stgraph.nn.rotary import rotation
from stgraph.nn.soft_bins import SoftBins
from stgraph.nn.swiglu import Norm, PreNormLayer, Sizes, make_norm

CenterPooling = Literal["max", "mean", "max_genes", "mean_genes"]
"""What stands for a centre: maximum or mean of the states of its tokens, or of those of its genes only."""


class AIDOTissue(NeighborhoodNetwork):
    """Values and genes of a centre and of its neighbours to states of the centre's tokens, and on to hidden values.

    A token is the embedding of its value plus that of its gene; which gene it is, and the place of its cell among the
    neighbours, turn its queries and keys. All tokens of all cells of a neighbourhood attend to one another. There is no
    padding, so that a cell has the same states in any batch; of the last layer only the centre's tokens are computed,
    for no other are read. The decoder then sees the centre only, with all genes that were measured.

    Weights of the encoder have the names of the release, which `stgraph.models.aido_tissue_release` reads and writes.

    Parameters
    ----------
    num_genes
        G, of the vocabulary; 19,264 in the release.
    hidden_channels
        C, a multiple of 4 times ``heads``.
    num_layers, heads, ffn_channels
        Of the encoder. The defaults are those of the release's 3M; 12, 8 and 2048 at 512 channels are its 60M.
    num_bins
        As for `stgraph.nn.soft_bins.SoftBins`.
    norm
        "rms" or "layer".
    pooling
        What stands for a centre; "max" in the release, where depth tokens count.
    decoder_layers, decoder_heads, decoder_channels, decoder_ffn_channels
        As for `stgraph.models.center_decoder.CenterDecoder`.
    decoder_zeros
        How many genes that are measured, not expressed and not hidden the decoder sees of a cell, spread evenly over
        them; another choice at each step of training. None: all, which costs the square of the panel.
    dropout
        Of all branches; 0 in the release.
    licence
        What the weights may be used for, where they are somebody else's; it goes where the model goes.

    Shapes
    ------
    Input: a `stgraph.data.neighborhood_batch.NeighborhoodBatch` of S sequences. Output: `NeighborhoodStates` with
    ``token`` (M, C) and ``center`` (S, C).

    References
    ----------
    GenBio AI. AIDO.Tissue: spatial cell-guided pretraining for scalable spatial transcriptomics foundation model, 2025.

    Examples
    --------
    >>> import torch
    >>> from stgraph.data.cell_batch import CellBatch
    >>> from stgraph.data.neighborhood_batch import NeighborhoodBatch
    >>> from stgraph.models.aido_tissue import AIDOTissue
    >>> cells = CellBatch(torch.tensor([2, 3, 3]), torch.tensor([0, 2, 3]), torch.tensor([0, 1]), torch.rand(3))
    >>> near, far = torch.tensor([[0, 1], [1, 0]]), torch.tensor([[0.0, 9.0], [0.0, 9.0]])
    >>> batch = NeighborhoodBatch(cells, near, far, torch.tensor([0, 0]), (torch.arange(5),))
    >>> model = AIDOTissue(num_genes=5, hidden_channels=16, num_layers=2, ffn_channels=32).eval()
    >>> model.embed(batch).shape, model(batch).token.shape
    (torch.Size([2, 16]), torch.Size([3, 16]))
    """

    def __init__(
        self,
        num_genes: int,
        hidden_channels: int = 128,
        num_layers: int = 4,
        heads: int = 2,
        ffn_channels: int = 512,
        num_bins: int = 100,
        norm: Norm = "rms",
        pooling: CenterPooling = "max",
        decoder_layers: int = 2,
        decoder_heads: int = 2,
        decoder_channels: int = 128,
        decoder_ffn_channels: int = 512,
        decoder_zeros: int | None = None,
        dropout: float = 0.0,
        licence: str | None = None,
    ) -> None:
        super().__init__()
        self.num_genes = num_genes
        self.hidden_channels = hidden_channels
        self.num_layers = num_layers
        self.heads = heads
        self.ffn_channels = ffn_channels
        self.num_bins = num_bins
        self.norm: Norm = norm
        self.pooling: CenterPooling = pooling
        self.decoder_layers = decoder_layers
        self.decoder_heads = decoder_heads
        self.decoder_channels = decoder_channels
        self.decoder_ffn_channels = decoder_ffn_channels
        self.decoder_zeros = decoder_zeros
        self.dropout = dropout
        self.licence = licence
        sizes = "num_genes", "hidden_channels", "num_layers", "heads", "ffn_channels"
        for name in (*sizes, "decoder_channels", "decoder_heads", "decoder_ffn_channels"):
            check_whole(self, name)
        check_whole(self, "decoder_layers", least=0)
        check_zeros(self, "decoder_zeros")
        if pooling not in get_args(CenterPooling):
            raise InputError(f"pooling must be one of {', '.join(get_args(CenterPooling))}, not {pooling!r}.")

        c = hidden_channels
        # Names of the release, whose gene embedding is that of values, and whose positions are genes.
        self.gene_embedding = SoftBins(c, num_bins)
        self.position_embedding = nn.Embedding(self.vocabulary_size, c)
        layers = (PreNormLayer(c, heads, ffn_channels, norm, dropout) for _ in range(num_layers))
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(layers), "ln": make_norm(norm, c)})
        self.decoder = CenterDecoder(
            c, decoder_channels, decoder_heads, decoder_ffn_channels, decoder_layers, norm, dropout
        )
        self.reset_parameters()

    @property
    def out_channels(self) -> int:  # type: ignore[override]
        """Width of the embedding of a cell, C."""
        return self.hidden_channels

    def reset_parameters(self) -> None:
        """Draw matrices and tables as `stgraph.nn.bert.BertEncoder` does; the small network of values as torch does."""
        std = matrix_std(self.hidden_channels)
        of_values = {self.gene_embedding.linear1, self.gene_embedding.linear2}
        for module in self.modules():
            if isinstance(module, nn.Linear) and module not in of_values:
                nn.init.normal_(module.weight, std=std)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=std)

    def forward(self, batch: NeighborhoodBatch) -> NeighborhoodStates:
        """States of the tokens of the centres, and their embeddings.

        Raises
        ------
        InputError
            If tokens are not of the vocabulary.
        """
        packed = batch.pack()
        offsets = F.pad(packed.center_tokens.cumsum(0), (1, 0))
        groups = SequenceGroups.of(offsets, packed.offsets)
        source, slot = packed.source, packed.slot
        if groups.key_order is not None:
            source, slot = source.index_select(0, groups.key_order), slot.index_select(0, groups.key_order)
        x = self.embed_tokens(batch.unique).index_select(0, source)
        turned = rotation(batch.unique.tokens.index_select(0, source), slot, self.hidden_channels // self.heads)
        token = groups.scatter(self._encode(x, groups.sizes, turned, (slot == 0).nonzero()[:, 0]))
        return NeighborhoodStates(token, offsets, self.pool(token, offsets, center_tokens(batch)))

    def embed_tokens(self, cells: CellBatch) -> Tensor:
        """(U, C) value and gene of the tokens of distinct cells, once for all sequences they are in."""
        check_tokens(cells.tokens, self.vocabulary_size)
        if cells.values is None:
            raise InputError("AIDOTissue reads values: tokenise the cells with their values.")
        values: Tensor = self.gene_embedding(cells.values)
        genes: Tensor = self.position_embedding(cells.tokens)
        return values + genes

    def pool(self, token: Tensor, offsets: Tensor, genes: Tensor) -> Tensor:
        """(S, C) what stands for each centre, from the states (M, C) of its tokens, which are of ``genes`` (M,).

        A centre without any of the tokens that count has zeros.
        """
        counts = genes < self.num_genes if self.pooling.endswith("genes") else None
        how: Pooling = "max" if self.pooling.startswith("max") else "mean"
        return pool_sequences(token, offsets, how, counts)

    def predict_hidden(self, states: NeighborhoodStates, batch: NeighborhoodBatch) -> Tensor:
        """(n,) values of the hidden genes.

        Raises
        ------
        InputError
            If no genes of the batch are hidden.
        """
        if batch.hidden is None:
            raise InputError("No genes of this batch are hidden, so that there are none to predict.")
        hidden = CenterGenes(batch.hidden.row, batch.hidden.gene)
        rows = torch.arange(batch.num_cells, device=states.token.device)
        seen = CenterGenes(rows.repeat_interleave(states.offsets.diff()), center_tokens(batch))
        absent = absent_genes(seen, hidden, batch.panel, batch.panels, self.num_genes)
        if self.decoder_zeros is not None:
            absent = spread_sample(absent, self.decoder_zeros, batch.num_cells, shifted=self.training)
        zero = self.gene_embedding(states.token.new_zeros(1))
        values: Tensor = self.decoder(
            states.token + self.position_embedding(seen.gene),
            self.gene_embedding.mask_vector + self.position_embedding(hidden.gene),
            zero + self.position_embedding(absent.gene),
            seen,
            hidden,
            absent,
            num_cells=batch.num_cells,
        )
        return values

    @property
    def layers(self) -> list[PreNormLayer]:
        """Of the encoder, the first first."""
        layers: Any = self.encoder["layer"]
        return list(layers)

    def _encode(self, x: Tensor, sizes: Sizes, turned: Tensor, center: Tensor) -> Tensor:
        """States of the centre's tokens, which are those numbered ``center``."""
        *layers, last = self.layers
        for layer in layers:
            x = layer(x, tuple((n, length, length) for n, _, length in sizes), turned)
        x = last(x, sizes, turned, x.index_select(0, center), turned.index_select(0, center))
        out: Tensor = self.encoder["ln"](x)
        return out


def center_tokens(batch: NeighborhoodBatch) -> Tensor:
    """(M,) int64, what the tokens of the centres are that an objective left.

    Examples
    --------
    >>> import torch
    >>> from stgraph.data.cell_batch import CellBatch
    >>> from stgraph.data.neighborhood_batch import NeighborhoodBatch
    >>> from stgraph.models.aido_tissue import center_tokens
    >>> cells = CellBatch(torch.tensor([2, 3, 4]), torch.tensor([0, 2, 3]), torch.tensor([0, 1]), torch.rand(3))
    >>> near, far = torch.tensor([[1, 0]]), torch.tensor([[0.0, 9.0]])
    >>> center_tokens(NeighborhoodBatch(cells, near, far, torch.tensor([0]), (torch.arange(5),))).tolist()
    [4]
    """
    packed = batch.pack()
    return batch.unique.tokens.index_select(0, packed.source.index_select(0, packed.center_positions))
