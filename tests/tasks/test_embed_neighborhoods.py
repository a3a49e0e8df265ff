import numpy as np
import pytest
import torch

from stgraph.data.depth_values import BatchDepth, CellDepth
from stgraph.data.labelled_neighborhoods import LabelledNeighborhoods
from stgraph.data.neighborhood_sequences import NeighborhoodSequences
from stgraph.errors import InputError
from stgraph.graph.builders import Radius
from stgraph.graph.copied_center import CopiedCenter
from stgraph.graph.neighbor_choice import GraphNeighbors, NearestCells
from stgraph.models.aido_tissue import AIDOTissue
from stgraph.models.cell_graph_genes import CellGraphGenes
from stgraph.models.center_predictor import CenterPredictor
from stgraph.models.center_teller import CenterTeller
from stgraph.preprocess.ragged_tokens import RaggedTokens
from stgraph.tasks.embed_neighborhoods import embed_neighborhoods

G = 12


def tissue(choice, depth, sizes=(50, 30)):
    rng = np.random.default_rng(0)
    cells, around = [], []
    for n in sizes:
        lengths = rng.integers(0, 6, n)
        genes = [np.sort(rng.choice(G, length, replace=False)) for length in lengths]
        indptr = np.concatenate([[0], np.cumsum(lengths)])
        values = rng.poisson(3, indptr[-1]) + 1.0
        own = RaggedTokens(np.concatenate(genes).astype(np.int32), indptr, values.astype(np.float32))
        with_neighbors, table = choice(rng.uniform(0, 60, (n, 2)), own)
        cells.append(with_neighbors)
        around.append(table)
    return NeighborhoodSequences(cells, around, [np.arange(G)] * len(sizes), num_genes=G, depth=depth)


class Counted(CellGraphGenes):
    """How many cells are read, of all and of centres."""

    read = summarized = 0

    def _read(self, cells):
        self.read += cells.num_cells
        return super()._read(cells)

    def summarize(self, cells):
        self.summarized += cells.num_cells
        return super().summarize(cells)


def graph_network(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Counted(G, hidden_channels=16, ffn_channels=16, num_cell_layers=1, num_context_layers=2, num_bins=8)


def wrapped(name):
    network = graph_network()
    with torch.random.fork_rng():
        torch.manual_seed(1)
        if name == "alone":
            return network, network
        if name == "teller":
            return network, CenterTeller(G, network)
        return network, CenterPredictor(3, CenterTeller(G, network), (8,), 0.5)


@torch.no_grad()
def at_once(network, cells, rows):
    return network.eval().embed(cells[rows]).numpy()


CHOICES = [NearestCells(5), GraphNeighbors(Radius(6.0), 5), GraphNeighbors(Radius(0.001), 5), CopiedCenter(3)]


@pytest.mark.parametrize("name", ["alone", "teller", "predictor"])
@pytest.mark.parametrize("choice", CHOICES)
def test_cells_that_are_summarised_once_are_embedded_as_in_one_batch(choice, name):
    cells = tissue(choice, CellDepth(target=50.0))
    inner, network = wrapped(name)
    expected = at_once(network, cells, np.arange(len(cells)))
    inner.read = inner.summarized = 0
    found = embed_neighborhoods(network, cells, order=np.random.default_rng(2).permutation(len(cells)), max_tokens=90)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    # Each once as a neighbour, and the centres once more: whatever the budget and the number of neighbours.
    assert inner.summarized == len(cells.cell_tokens)
    assert inner.read == inner.summarized + len(cells)


def test_of_known_cells_only_what_they_read_is_summarised():
    cells = tissue(NearestCells(3), CellDepth())
    truth = [np.full(50, -1), np.full(30, -1)]
    truth[0][[3, 40]], truth[1][7] = 1, 2
    known = LabelledNeighborhoods(cells, truth)
    network = graph_network()
    expected = at_once(network, cells, [3, 40, 57])
    network.summarized = 0
    np.testing.assert_allclose(embed_neighborhoods(network, known), expected, rtol=1e-4, atol=1e-5)
    assert network.summarized == len(np.unique(cells.around(np.array([3, 40, 57]))[0]))
    nothing = LabelledNeighborhoods(cells, [np.full(50, -1), np.full(30, -1)])
    assert embed_neighborhoods(network, nothing).shape == (0, 16)


def test_values_that_depend_on_the_batch_are_not_shared():
    cells, network = tissue(NearestCells(3), BatchDepth()), graph_network()
    found = embed_neighborhoods(network, cells, max_tokens=10**6)
    assert network.summarized == 0
    np.testing.assert_allclose(found, at_once(network, cells, np.arange(80)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_other_networks_read_neighbourhoods_in_any_order_and_budget(training):
    cells = tissue(NearestCells(4), CellDepth())
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = AIDOTissue(G, hidden_channels=16, num_layers=1, ffn_channels=16, num_bins=8, dropout=0.5)
    expected = at_once(network, cells, np.arange(80))
    network.train(training)
    found = embed_neighborhoods(network, cells, order=np.arange(80)[::-1], max_tokens=int(cells.lengths.max()))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert network.training is training
    assert found.dtype == np.float32


def test_a_budget_below_the_longest_is_refused():
    cells = tissue(NearestCells(4), CellDepth())
    with pytest.raises(InputError, match="more than the 3 of a batch"):
        embed_neighborhoods(graph_network(), cells, max_tokens=3)
