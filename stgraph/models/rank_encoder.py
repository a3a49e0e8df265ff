"""The cell encoder of SToFM: genes in the order of their expression, read by a BERT."""

from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stgraph.data.cell_batch import CellBatch
from stgraph.models.cell_network import CellNetwork, CellStates, Pooling, gene_shares
from stgraph.nn.bert import Activation, BertEncoder, activate, check_none_empty, matrix_std


class RankEncoder(CellNetwork):
    """Gene tokens of a cell, highest first, to an embedding: a BERT's states, pooled and projected.

    The first token of each cell is the class token. Weights have the names of a Hugging Face ``BertForMaskedLM``
    (``bert.*`` and ``cls.*``), and ``cell_proj.*`` is SToFM's projection; `stgraph.models.bert_checkpoint` reads
    and writes the published layout. The defaults are a small network to train oneself; Geneformer's has 6 layers of
    256 channels and feed-forward networks of 512, and its class token stands for the cell.

    Parameters
    ----------
    vocabulary_size
        Rows of the vocabulary: padding, mask, genes, class token.
    out_channels
        Width of the embedding; 256 in SToFM.
    hidden_channels
        C, width of the states.
    num_layers, heads, ffn_channels, max_positions, num_types, dropout, attention_dropout, activation, norm_eps
        As for `stgraph.nn.bert.BertEncoder`.
    pooling
        What stands for a cell, as for `stgraph.models.cell_network.CellNetwork`; "class" in SToFM.

    Shapes
    ------
    Input: a `stgraph.data.cell_batch.CellBatch` of T tokens and S cells. Output: `CellStates` with ``token`` (T, C)
    and ``cell`` (S, out_channels).

    References
    ----------
    SToFM: a multi-scale foundation model for spatial transcriptomics (2025).
    Theodoris et al., Transfer learning enables predictions in network biology (2023).

    Examples
    --------
    >>> import torch
    >>> from stgraph.data.cell_batch import CellBatch
    >>> from stgraph.models.rank_encoder import RankEncoder
    >>> cells = CellBatch(torch.tensor([9, 2, 3, 9, 4]), torch.tensor([0, 3, 5]), torch.tensor([0, 1]))
    >>> model = RankEncoder(vocabulary_size=10, hidden_channels=8, num_layers=1, heads=2).eval()
    >>> model.embed(cells).shape, model.predict_genes(model(cells).token).shape
    (torch.Size([2, 128]), torch.Size([5, 10]))
    """

    def __init__(
        self,
        vocabulary_size: int,
        out_channels: int = 128,
        hidden_channels: int = 128,
        num_layers: int = 2,
        heads: int = 4,
        ffn_channels: int = 256,
        max_positions: int = 2048,
        num_types: int = 2,
        dropout: float = 0.02,
        attention_dropout: float = 0.02,
        activation: Activation = "relu",
        norm_eps: float = 1e-12,
        pooling: Pooling = "mean",
    ) -> None:
        super().__init__(vocabulary_size, hidden_channels, out_channels, pooling)
        self.num_layers = num_layers
        self.heads = heads
        self.ffn_channels = ffn_channels
        self.max_positions = max_positions
        self.num_types = num_types
        self.dropout = dropout
        self.attention_dropout = attention_dropout
        self.activation: Activation = activation
        self.norm_eps = norm_eps

        self.bert = BertEncoder(
            vocabulary_size,
            hidden_channels,
            num_layers,
            heads,
            ffn_channels,
            max_positions=max_positions,
            num_types=num_types,
            dropout=dropout,
            attention_dropout=attention_dropout,
            activation=activation,
            norm_eps=norm_eps,
        )
        self.cls = nn.ModuleDict({"predictions": _GeneHead(hidden_channels, vocabulary_size, activation, norm_eps)})
        # Not of the published layout: the genes of a cell from its embedding alone.
        self.cell_head = nn.Linear(out_channels, hidden_channels)
        self.gene_bias = nn.Parameter(torch.zeros(vocabulary_size))

    def forward(self, cells: CellBatch) -> CellStates:
        """States of all tokens, and the embeddings of their cells."""
        check_none_empty(cells.offsets)
        token = self.bert(cells.tokens, cells.offsets)
        return CellStates(token, self.project(self.pool(token, cells.offsets)))

    def unit_embedding(self, cells: CellBatch) -> Tensor:
        """(S, out_channels) of length 1; if the class token is taken, the last layer computes no other."""
        if self.pooling == "class":
            return self.project(self.bert.first(cells.tokens, cells.offsets))
        return super().unit_embedding(cells)

    @torch.no_grad()
    def fit_genes(self, tokens: Tensor) -> Self:
        """Let predictions begin at how often each gene occurs, before training.

        Parameters
        ----------
        tokens
            (n,) of training cells, class tokens and all. Genes that are not there count as half of one that occurs
            once.

        Returns
        -------
        RankEncoder
            Itself.
        """
        head: Any = self.cls["predictions"]
        shares = gene_shares(tokens, self.vocabulary_size).log().to(head.bias)
        head.bias.copy_(shares)
        self.gene_bias.copy_(shares)
        return self

    def predict_genes(self, states: Tensor) -> Tensor:
        """(n, vocabulary_size) logits of the gene at each of n tokens, from their states (n, C)."""
        head: Any = self.cls["predictions"]
        out: Tensor = head(states, self.bert.word_weight)
        return out

    def predict_genes_of(self, cells: Tensor) -> Tensor:
        """(n, vocabulary_size) logits of the genes of n cells, from their embeddings (n, out_channels) alone."""
        # Entries of a unit vector are small: brought to unit variance, or steps would be lost on growth.
        states = self.cell_head(cells * self.out_channels**0.5)
        return F.linear(states, self.bert.word_weight, self.gene_bias)


class _GeneHead(nn.Module):
    """BertForMaskedLM's head; its last weights are those of the embedded words."""

    def __init__(self, channels: int, vocabulary_size: int, activation: Activation, norm_eps: float) -> None:
        super().__init__()
        self.activation: Activation = activation
        dense = nn.Linear(channels, channels)
        nn.init.normal_(dense.weight, std=matrix_std(channels))
        nn.init.zeros_(dense.bias)
        self.transform = nn.ModuleDict({"dense": dense, "LayerNorm": nn.LayerNorm(channels, eps=norm_eps)})
        self.bias = nn.Parameter(torch.zeros(vocabulary_size))

    def forward(self, states: Tensor, words: Tensor) -> Tensor:
        transformed = activate(self.transform["dense"](states), self.activation)
        return F.linear(self.transform["LayerNorm"](transformed), words, self.bias)
