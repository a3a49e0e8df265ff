"""Embeddings of many cells by a network of cells, in batches of like lengths."""

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from stgraph.data.cell_sequences import CellSequences
from stgraph.data.token_budget import check_budget, cut_by_budget
from stgraph.models.cell_network import CellNetwork
from stgraph.preprocess.ragged_tokens import RaggedTokens
from stgraph.tasks.late_bar import LateBar

_MOST_CELLS = 10_000
"""Cells that mean and variance of features are taken of."""


@torch.no_grad()
def embed_cells(network: CellNetwork, cells: RaggedTokens, *, max_tokens: int = 16384) -> NDArray[np.float32]:
    """Features of every cell, on the device of the network and in eval mode, without gradient.

    Cells go through sorted by their length, so that each batch has few different ones. On a terminal a progress bar
    appears if it takes more than a few seconds.

    Parameters
    ----------
    network
        Its mode, training or not, is as before afterwards.
    cells
        Token sequences, each with one token at least.
    max_tokens
        Most tokens of a batch. Embeddings do not depend on it but for rounding.

    Returns
    -------
    ndarray
        (N, out_channels) float32.

    Raises
    ------
    InputError
        If a cell has no token, more than ``max_tokens``, or one that the network does not know.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.models.rank_encoder import RankEncoder
    >>> from stgraph.preprocess.ragged_tokens import RaggedTokens
    >>> from stgraph.tasks.embed_cells import embed_cells
    >>> cells = RaggedTokens(np.array([9, 4, 9, 5, 6], dtype=np.int32), np.array([0, 2, 5]))
    >>> embed_cells(RankEncoder(10, out_channels=16), cells).shape
    (2, 16)
    """
    sequences = CellSequences([cells])
    check_budget(sequences.lengths, max_tokens)
    order = np.argsort(sequences.lengths, kind="stable")
    bounds = cut_by_budget(sequences.lengths[order], max_tokens)
    device, was_training = next(network.parameters()).device, network.training
    out = np.empty((len(cells), network.out_channels), dtype=np.float32)
    network.eval()
    try:
        with LateBar(len(cells)) as bar:
            for begin, end in itertools.pairwise(bounds.tolist()):
                rows = order[begin:end]
                out[rows] = network.embed(sequences[rows].to(device)).float().cpu().numpy()
                bar.advance(len(rows))
    finally:
        network.train(was_training)
    return out


def scale_features(
    network: CellNetwork, slices: Sequence[RaggedTokens], *, max_tokens: int = 16384
) -> NDArray[np.float32]:
    """Let the features of these cells have mean 0, and variance 1 on the mean of channels.

    Unless the class token stands for the cell: then features are embeddings of length 1, as published.

    Parameters
    ----------
    network
        Changed in place; see `stgraph.models.cell_network.CellNetwork.scale_features`.
    slices
        Token sequences of the training cells. Of more than 10,000, as many at even distances are looked at.
    max_tokens
        As for `embed_cells`.

    Returns
    -------
    ndarray
        (n, out_channels) embeddings of length 1 of the cells that were looked at.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.models.rank_encoder import RankEncoder
    >>> from stgraph.preprocess.ragged_tokens import RaggedTokens
    >>> from stgraph.tasks.embed_cells import embed_cells, scale_features
    >>> cells = RaggedTokens(np.array([9, 4, 9, 5, 6], dtype=np.int32), np.array([0, 2, 5]))
    >>> network = RankEncoder(10, out_channels=16)
    >>> unit = scale_features(network, [cells])
    >>> round(float(embed_cells(network, cells).var(axis=0).mean()), 3)
    1.0
    """
    stride = -(-sum(map(len, slices)) // _MOST_CELLS)
    some = RaggedTokens.joined([cells.take(np.arange(0, len(cells), max(stride, 1))) for cells in slices])
    network.scale_features(None)
    unit = embed_cells(network, some, max_tokens=max_tokens)
    if network.pooling == "mean":
        network.scale_features(torch.from_numpy(unit))
    return unit
