"""What a network of single cells takes and gives."""

from abc import ABC, abstractmethod
from typing import Literal, NamedTuple, Self, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stgraph.data.cell_batch import CellBatch
from stgraph.errors import InputError

Pooling = Literal["class", "mean"]
"""What stands for a cell: the state of its class token, or the mean of those of its genes."""


class CellStates(NamedTuple):
    """States of a batch after the last layer.

    Attributes
    ----------
    token
        (T, C) states of all tokens, in the order of the batch; C is the width of the network, not of its embeddings.
    cell
        (S, out_channels) embeddings of the cells, of length 1.
    """

    token: Tensor
    cell: Tensor


class CellNetwork(nn.Module, ABC):
    """A network that reads the genes of a cell, and nothing around it.

    Constructor arguments are kept as attributes of the same name, so that the config of a network can be written; the
    first is ``vocabulary_size``, the rows of its vocabulary.

    Parameters
    ----------
    vocabulary_size
        Rows of the vocabulary.
    hidden_channels
        C, width of the states.
    out_channels
        Width of the embedding of a cell.
    pooling
        What stands for a cell. Of a network as it was drawn, the class token says next to nothing of the cell
        (dropout moves it more than another cell does); the mean of its genes does.

    Attributes
    ----------
    cell_proj
        Linear, from a pooled state to the embedding.
    feature_mean, feature_scale
        (out_channels,) and (1,), what `embed` counts from, and in; 0 and 1 until `scale_features`.

    Shapes
    ------
    T tokens of S cells, in a `stgraph.data.cell_batch.CellBatch`.
    """

    feature_mean: Tensor
    feature_scale: Tensor

    def __init__(self, vocabulary_size: int, hidden_channels: int, out_channels: int, pooling: Pooling) -> None:
        super().__init__()
        if out_channels < 1:
            raise InputError(f"{type(self).__name__} needs out_channels of at least 1, not {out_channels}.")
        if pooling not in get_args(Pooling):
            raise InputError(f"pooling must be one of {', '.join(get_args(Pooling))}, not {pooling!r}.")
        self.vocabulary_size = vocabulary_size
        self.hidden_channels = hidden_channels
        self.out_channels = out_channels
        self.pooling: Pooling = pooling
        self.cell_proj = nn.Linear(hidden_channels, out_channels)
        self.register_buffer("feature_mean", torch.zeros(out_channels))
        self.register_buffer("feature_scale", torch.ones(1))

    @abstractmethod
    def forward(self, cells: CellBatch) -> CellStates:
        """States of all tokens and cells."""

    def embed(self, cells: CellBatch) -> Tensor:
        """(S, out_channels) features of the cells: ``forward(cells).cell``, centred and scaled; with gradient."""
        return (self.unit_embedding(cells) - self.feature_mean) / self.feature_scale

    def unit_embedding(self, cells: CellBatch) -> Tensor:
        """(S, out_channels) as ``forward(cells).cell``, cheaper if that can be."""
        states: CellStates = self(cells)
        return states.cell

    @property
    def scaled(self) -> bool:
        """Whether features are other than the embeddings of length 1."""
        return bool(self.feature_mean.any()) or bool((self.feature_scale != 1).any())

    @torch.no_grad()
    def scale_features(self, embeddings: Tensor | None) -> Self:
        """Centre features, and bring their variance to 1 on the mean of channels.

        Embeddings of length 1 have entries that hardly differ between cells, and what learns from them, such as the
        masked cells of a graph, would first have to learn their mean.

        Parameters
        ----------
        embeddings
            (n, out_channels) of training cells, of length 1. None: features are the embeddings.

        Returns
        -------
        CellNetwork
            Itself.
        """
        self.feature_mean.zero_()
        self.feature_scale.fill_(1.0)
        if embeddings is not None and len(embeddings) > 1:
            variance = embeddings.double().var(dim=0, correction=0).mean()
            if variance > 1e-12:
                self.feature_mean.copy_(embeddings.double().mean(dim=0))
                self.feature_scale.fill_(float(variance.sqrt()))
        return self

    def project(self, pooled: Tensor) -> Tensor:
        """(S, out_channels) embeddings of length 1 from pooled states (S, C)."""
        projected = self.cell_proj(pooled)
        # Never in half precision, where lengths are off by a thousandth.
        return F.normalize(projected.to(torch.promote_types(projected.dtype, torch.float32)), dim=1)

    def pool(self, token: Tensor, offsets: Tensor) -> Tensor:
        """(S, C) what stands for each cell, from the states (T, C) of all tokens.

        The class token is the first of a cell; it is no gene, and stands for cells that have none.
        """
        first = token.index_select(0, offsets[:-1])
        if self.pooling == "class":
            return first
        genes = (offsets.diff() - 1)[:, None]
        total: Tensor = torch.segment_reduce(
            token.to(torch.promote_types(token.dtype, torch.float32)), "sum", offsets=offsets, axis=0
        )
        return torch.where(genes > 0, (total - first) / genes.clamp(min=1), first.to(total.dtype))


def gene_shares(tokens: Tensor, vocabulary_size: int) -> Tensor:
    """(vocabulary_size,) float64, share of each token; what does not occur counts half.

    Examples
    --------
    >>> import torch
    >>> from stgraph.models.cell_network import gene_shares
    >>> gene_shares(torch.tensor([2, 3, 3]), 4)
    tensor([0.1250, 0.1250, 0.2500, 0.5000], dtype=torch.float64)
    """
    counts = torch.bincount(tokens.long(), minlength=vocabulary_size).double().clamp(min=0.5)
    return counts / counts.sum()
