"""Embeddings of many cells by a network that reads their neighbours too."""

import itertools

import numpy as np
import torch
from numpy.typing import NDArray

from stgraph.data.labelled_neighborhoods import LabelledNeighborhoods
from stgraph.data.neighborhood_sequences import NeighborhoodSequences
from stgraph.data.token_budget import check_budget, cut_by_budget
from stgraph.models.neighborhood_network import NeighborhoodNetwork
from stgraph.tasks.late_bar import LateBar


@torch.no_grad()
def embed_neighborhoods(
    network: NeighborhoodNetwork,
    cells: NeighborhoodSequences | LabelledNeighborhoods,
    *,
    order: NDArray[np.int64] | None = None,
    max_tokens: int = 65_536,
) -> NDArray[np.float32]:
    """Embedding of every cell, on the device of the network and in eval mode, without gradient.

    On a terminal a progress bar appears if it takes more than a few seconds.

    Parameters
    ----------
    network
        Its mode, training or not, is as before afterwards.
    cells
        N cells with their neighbours.
    order
        (N,) in which cells go through. Those that follow each other should be near to each other, for what they share
        is computed once. None for their own order.
    max_tokens
        Most tokens of a batch, all cells of all neighbourhoods counted. Embeddings do not depend on it but for
        rounding, unless values depend on the batch (`stgraph.data.depth_values.BatchDepth`).

    Returns
    -------
    ndarray
        (N, out_channels) float32.

    Raises
    ------
    InputError
        If a neighbourhood has more than ``max_tokens``.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.data.neighborhood_sequences import NeighborhoodSequences
    >>> from stgraph.graph.neighborhoods import neighborhoods
    >>> from stgraph.models.aido_tissue import AIDOTissue
    >>> from stgraph.preprocess.ragged_tokens import RaggedTokens
    >>> from stgraph.tasks.embed_neighborhoods import embed_neighborhoods
    >>> counts = RaggedTokens(np.array([0, 2, 1], np.int32), np.array([0, 1, 2, 3]), np.ones(3, np.float32))
    >>> around = neighborhoods(np.array([[0.0, 0.0], [1.0, 0.0], [3.0, 0.0]]), 1)
    >>> cells = NeighborhoodSequences([counts], [around], [np.arange(3)], num_genes=3)
    >>> embed_neighborhoods(AIDOTissue(3, hidden_channels=16, num_layers=1), cells).shape
    (3, 16)
    """
    check_budget(cells.lengths, max_tokens)
    order = np.arange(len(cells)) if order is None else order
    bounds = cut_by_budget(cells.lengths[order], max_tokens)
    device, was_training = next(network.parameters()).device, network.training
    out = np.empty((len(cells), network.out_channels), dtype=np.float32)
    network.eval()
    try:
        with LateBar(len(cells)) as bar:
            for begin, end in itertools.pairwise(bounds.tolist()):
                rows = order[begin:end]
                out[rows] = network.embed(cells[rows].to(device)).float().cpu().numpy()
                bar.advance(len(rows))
    finally:
        network.train(was_training)
    return out
