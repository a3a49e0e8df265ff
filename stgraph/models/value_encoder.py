"""A cell encoder that reads the genes of a cell with their values, in no order."""

from typing import Any, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stgraph.data.cell_batch import CellBatch
from stgraph.errors import InputError
from stgraph.models.cell_network import CellNetwork, CellStates, Pooling, gene_shares
from stgraph.nn.bert import BertLayer, check_none_empty, check_tokens
from stgraph.nn.packed_attention import SequenceGroups
from stgraph.nn.sparse_dropout import sparse_dropout
from stgraph.nn.value_embedding import ContinuousValues


class ValueEncoder(CellNetwork):
    """Gene tokens and their values to an embedding: the states of a transformer, pooled and projected.

    A token is the embedding of its gene plus that of its value; there are no positions, so the order of the genes of a
    cell says nothing. The first token of each cell is the class token. A value that is NaN was hidden: a learnt vector
    stands for it.

    Parameters
    ----------
    vocabulary_size
        Rows of the vocabulary: padding, mask, genes, class token.
    out_channels
        Width of the embedding.
    hidden_channels
        C, width of the states.
    num_layers, heads, ffn_channels
        Of the transformer; ``hidden_channels`` is a multiple of ``heads``.
    dropout, attention_dropout
        As for `stgraph.nn.bert.BertLayer`.
    value_embedding
        Values (T,) to vectors (T, C): a `stgraph.nn.value_embedding.ContinuousValues`, which is the default, a
        `stgraph.nn.value_embedding.BinnedValues`, or your own.
    pooling
        What stands for a cell, as for `stgraph.models.cell_network.CellNetwork`.

    Shapes
    ------
    Input: a `stgraph.data.cell_batch.CellBatch` with values, of T tokens and S cells. Output: `CellStates` with
    ``token`` (T, C) and ``cell`` (S, out_channels).

    References
    ----------
    Cui et al., scGPT: toward building a foundation model for single-cell multi-omics using generative AI (2024).

    Examples
    --------
    >>> import torch
    >>> from stgraph.data.cell_batch import CellBatch
    >>> from stgraph.models.value_encoder import ValueEncoder
    >>> values = torch.tensor([0.0, 50.0, 10.0, 0.0, 100.0])
    >>> cells = CellBatch(torch.tensor([9, 2, 3, 9, 4]), torch.tensor([0, 3, 5]), torch.tensor([0, 1]), values)
    >>> model = ValueEncoder(10, out_channels=8, hidden_channels=16, num_layers=1, heads=2).eval()
    >>> model.embed(cells).shape, model.predict_values(model(cells).token).shape
    (torch.Size([2, 8]), torch.Size([5]))
    """

    value_mean: Tensor
    value_spread: Tensor

    def __init__(
        self,
        vocabulary_size: int,
        out_channels: int = 64,
        hidden_channels: int = 64,
        num_layers: int = 2,
        heads: int = 4,
        ffn_channels: int = 128,
        dropout: float = 0.1,
        attention_dropout: float = 0.1,
        value_embedding: nn.Module | None = None,
        pooling: Pooling = "mean",
    ) -> None:
        if min(vocabulary_size, num_layers) < 1:
            raise InputError("ValueEncoder needs vocabulary_size and num_layers of at least 1.")
        super().__init__(vocabulary_size, hidden_channels, out_channels, pooling)
        self.num_layers = num_layers
        self.heads = heads
        self.ffn_channels = ffn_channels
        self.dropout = dropout
        self.attention_dropout = attention_dropout

        c = hidden_channels
        self.gene_embedding = nn.Embedding(vocabulary_size, c)
        nn.init.normal_(self.gene_embedding.weight, std=0.3)  # or values would be lost beside genes
        self.value_embedding = ContinuousValues(c) if value_embedding is None else value_embedding
        self.hidden_value = nn.Parameter(torch.randn(c) * 0.1)
        self.norm = nn.LayerNorm(c)
        self.layers = nn.ModuleList(
            BertLayer(c, heads, ffn_channels, dropout, attention_dropout, "gelu", 1e-5) for _ in range(num_layers)
        )
        self.gene_head = nn.Sequential(nn.Linear(c, c), nn.GELU(), nn.LayerNorm(c), nn.Linear(c, vocabulary_size))
        self.value_head = nn.Sequential(nn.Linear(c, c), nn.GELU(), nn.LayerNorm(c), nn.Linear(c, 1))
        self.cell_head = nn.Linear(out_channels, c)
        self.gene_bias = nn.Embedding(vocabulary_size, 1)
        nn.init.zeros_(self.gene_bias.weight)
        self.presence_head = nn.Linear(out_channels, c)
        self.presence_bias = nn.Parameter(torch.zeros(vocabulary_size))
        # What predictions are counted from, and in; as in the value embedding.
        self.register_buffer("value_mean", torch.tensor([4.0]))
        self.register_buffer("value_spread", torch.tensor([1.0]))

    def forward(self, cells: CellBatch) -> CellStates:
        """States of all tokens, and the embeddings of their cells."""
        check_none_empty(cells.offsets)
        groups = SequenceGroups.of(cells.offsets)
        x = groups.gather(self._embed(cells))
        for layer in self.layers:
            x = layer(x, groups.sizes)
        token = groups.scatter(x)
        return CellStates(token, self.project(self.pool(token, cells.offsets)))

    def fit_values(self, values: Tensor) -> Self:
        """Learn what values are like, before training; the value embedding too, if it has a ``fit``.

        Parameters
        ----------
        values
            (n,) of training cells. Values that are not positive, such as those of class tokens, do not count.

        Returns
        -------
        ValueEncoder
            Itself.

        Raises
        ------
        InputError
            If none is positive.
        """
        logs = values[values > 0].double().log1p()
        if len(logs) == 0:
            raise InputError("ValueEncoder needs positive values to learn from: the cells have no counts.")
        if hasattr(self.value_embedding, "fit"):
            cast(Any, self.value_embedding).fit(values)
        self.value_mean = logs.mean()[None].to(self.value_mean)
        self.value_spread = logs.std(correction=0).clamp(min=1e-3)[None].to(self.value_spread)
        return self

    def predict_genes(self, states: Tensor) -> Tensor:
        """(n, vocabulary_size) logits of the gene at each of n tokens, from their states (n, C)."""
        out: Tensor = self.gene_head(states)
        return out

    @torch.no_grad()
    def fit_genes(self, tokens: Tensor) -> Self:
        """Let predictions begin at how often each gene occurs; as `RankEncoder.fit_genes`."""
        shares = gene_shares(tokens, self.vocabulary_size).log()
        cast(nn.Linear, self.gene_head[-1]).bias.copy_(shares)
        self.presence_bias.copy_(shares)
        return self

    def predict_genes_of(self, cells: Tensor) -> Tensor:
        """(n, vocabulary_size) logits of the genes of n cells, from their embeddings (n, out_channels) alone."""
        states = self.presence_head(cells * self.out_channels**0.5)
        return F.linear(states, self.gene_embedding.weight, self.presence_bias)

    def predict_values(self, states: Tensor) -> Tensor:
        """(n,) ``log1p`` of the value at each of n tokens, from their states (n, C)."""
        out: Tensor = self.value_head(states)
        return out[:, 0] * self.value_spread + self.value_mean

    def predict_values_of(self, cells: Tensor, genes: Tensor) -> Tensor:
        """(n,) ``log1p`` of the values of genes (n,), from the embeddings (n, out_channels) of their cells alone."""
        gene = self.gene_embedding(genes)
        # Entries of a unit vector are small: brought to unit variance, or steps would be lost on growth.
        agreement = (self.cell_head(cells * self.out_channels**0.5) * gene).sum(1) * self.hidden_channels**-0.5
        out: Tensor = (agreement + self.gene_bias(genes)[:, 0]) * self.value_spread + self.value_mean
        return out

    def _embed(self, cells: CellBatch) -> Tensor:
        if cells.values is None:
            raise InputError("A ValueEncoder reads values: tokenise the cells with their values.")
        check_tokens(cells.tokens, self.vocabulary_size)
        hidden = cells.values.isnan()
        value = cast(Any, self.value_embedding)(cells.values.masked_fill(hidden, 0.0))
        x = self.gene_embedding(cells.tokens) + torch.where(hidden[:, None], self.hidden_value, value)
        return sparse_dropout(self.norm(x), self.dropout, self.training)
