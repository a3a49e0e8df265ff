"""Embeddings of many cells by a network that reads their neighbours too."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stgraph.data.cell_batch import CellBatch
from stgraph.data.labelled_neighborhoods import LabelledNeighborhoods
from stgraph.data.neighborhood_sequences import NeighborhoodSequences
from stgraph.data.token_budget import check_budget, cut_by_budget
from stgraph.models.center_predictor import CenterPredictor
from stgraph.models.center_teller import CenterTeller
from stgraph.models.neighborhood_network import NeighborhoodNetwork, NeighborhoodStates
from stgraph.tasks.late_bar import LateBar


@runtime_checkable
class SummarizesCells(Protocol):
    """A network to which a neighbour is what it shows to all, as `stgraph.models.cell_graph_genes.CellGraphGenes`."""

    def summarize(self, cells: CellBatch) -> Tensor:
        """(V, M, C) what cells show to those around them."""
        ...

    def embed_centers(self, centers: CellBatch, summaries: Tensor, neighbors: Tensor, distance: Tensor) -> Tensor:
        """(S, out_channels) what ``embed`` gives, of cells among neighbours that are summarised already."""
        ...


@torch.no_grad()
def embed_neighborhoods(
    network: NeighborhoodNetwork,
    cells: NeighborhoodSequences | LabelledNeighborhoods,
    *,
    order: NDArray[np.int64] | None = None,
    max_tokens: int = 65_536,
) -> NDArray[np.float32]:
    """Embedding of every cell, on the device of the network and in eval mode, without gradient.

    A network that summarises cells (`SummarizesCells`), by itself or within a
    `stgraph.models.center_teller.CenterTeller` or a `stgraph.models.center_predictor.CenterPredictor`, summarises each
    once and then reads centres among summaries: what a cell costs hardly depends on how many neighbours it has.

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
        Most tokens of a batch, all cells of all neighbourhoods counted, or all summaries. Embeddings do not depend on
        it but for rounding, unless values depend on the batch (`stgraph.data.depth_values.BatchDepth`).

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
    was_training = network.training
    out = np.empty((len(cells), network.out_channels), dtype=np.float32)
    network.eval()
    try:
        with LateBar(len(cells)) as bar:
            for rows, embedded in _embedded(network, cells, order, max_tokens):
                out[rows] = embedded.float().cpu().numpy()
                bar.advance(len(rows))
    finally:
        network.train(was_training)
    return out


def _embedded(
    network: NeighborhoodNetwork,
    cells: NeighborhoodSequences | LabelledNeighborhoods,
    order: NDArray[np.int64],
    max_tokens: int,
) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
    device = next(network.parameters()).device
    whole, numbers = (cells.cells, cells.rows) if isinstance(cells, LabelledNeighborhoods) else (cells, None)
    shared = _shared(network)
    if shared is None or not whole.depth.of_cell or not len(order):
        for rows in _batches(order, cells.lengths, max_tokens):
            yield rows, network.embed(cells[rows].to(device))
        return
    summarizer, head = shared
    table, distance = whole.around(np.arange(len(whole)) if numbers is None else numbers)
    shown, found = np.unique(table[table >= 0], return_inverse=True)
    parts = [summarizer.summarize(whole.at(own).to(device)) for own in _batches(shown, whole.cell_tokens, max_tokens)]
    summaries = torch.cat(parts)
    rows_of = np.full(table.shape, -1, dtype=np.int64)
    rows_of[table >= 0] = found.ravel()
    lengths = whole.cell_tokens[table[:, 0]] + (table[:, 1:] >= 0).sum(axis=1) * summaries.shape[1]
    for rows in _batches(order, lengths, max(max_tokens, int(lengths.max()))):
        # Only those that are read here, for each layer makes keys of all that it is given.
        read, local = np.unique(rows_of[rows], return_inverse=True)
        absent = int(read[0] < 0)  # -1 comes first, and is row -1 again without it
        near = torch.from_numpy(local.reshape(len(rows), -1)[:, 1:] - absent).to(device)
        far = torch.from_numpy(distance[rows, 1:]).to(device)
        read_of = summaries[torch.from_numpy(read[absent:]).to(device)]
        yield rows, head(summarizer.embed_centers(whole.at(table[rows, 0]).to(device), read_of, near, far))


def _shared(network: NeighborhoodNetwork) -> tuple[SummarizesCells, Callable[[Tensor], Tensor]] | None:
    """What summarises cells in a network, and what is still done with its embeddings."""
    if isinstance(network, SummarizesCells):
        return network, lambda center: center
    inner = _shared(network.network) if isinstance(network, CenterTeller | CenterPredictor) else None
    if inner is None or isinstance(network, CenterTeller):
        return inner
    predictor, head = cast(CenterPredictor, network), inner[1]

    def predicted(center: Tensor) -> Tensor:
        states = NeighborhoodStates(center[:0], torch.zeros(len(center) + 1), head(center))
        return predictor.predict_truth(states, cast(Any, None))  # of both it looks at the embedding alone

    return inner[0], predicted


def _batches(order: NDArray[np.int64], lengths: NDArray[np.int64], max_tokens: int) -> list[NDArray[np.int64]]:
    ends = cut_by_budget(lengths[order], max_tokens)
    return [order[begin:end] for begin, end in itertools.pairwise(ends.tolist())]
