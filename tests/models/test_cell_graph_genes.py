from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from stgraph.data.neighborhood_batch import HiddenGenes, NeighborhoodBatch
from stgraph.data.neighborhood_sequences import NeighborhoodSequences
from stgraph.errors import InputError
from stgraph.graph.neighborhoods import Neighborhoods, neighborhoods
from stgraph.models.cell_graph_genes import CellGraphGenes
from stgraph.preprocess.ragged_tokens import RaggedTokens
from stgraph.testing.neighborhood_network import NeighborhoodNetworkContract, planted_neighborhoods


def small(num_genes: int, **changes: object) -> CellGraphGenes:
    sizes = {"hidden_channels": 16, "num_cell_layers": 1, "num_context_layers": 1, "ffn_channels": 32, "num_bins": 8}
    return CellGraphGenes(num_genes, **sizes | {"decoder_layers": 1} | changes)


class TestCellGraphGenes(NeighborhoodNetworkContract):
    make = staticmethod(lambda num_genes: small(num_genes, pooling="mean", norm="layer"))


class TestMax(NeighborhoodNetworkContract):
    make = staticmethod(lambda num_genes: small(num_genes, num_cell_layers=2, num_context_layers=2))


@pytest.fixture
def batch() -> NeighborhoodBatch:
    return replace(planted_neighborhoods(), packed=None)


def test_shared_cells_are_as_cells_of_their_own(batch: NeighborhoodBatch) -> None:
    """The same tokens, packed for each sequence, go the long way and give the same."""
    torch.manual_seed(0)
    model = small(12)
    shared, apart = model(batch), model(replace(batch, packed=batch.pack()))
    torch.testing.assert_close(apart.token, shared.token, rtol=0, atol=1e-5)


def test_a_cell_is_read_once(batch: NeighborhoodBatch) -> None:
    """Twice as many centres on the same cells send no more tokens through the layers within cells."""
    model = small(12)
    seen: list[int] = []
    model.cell_layers[0].register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    rows = torch.arange(batch.num_cells).repeat(2)
    double = replace(batch, neighbors=batch.neighbors[rows], distance=batch.distance[rows], panel=batch.panel[rows])
    model(batch)
    model(double)
    assert seen == [batch.unique.num_tokens] * 2


def test_summaries_of_a_slice_embed_its_cells(batch: NeighborhoodBatch) -> None:
    torch.manual_seed(0)
    model = small(12).eval()
    summaries = model.summarize(batch.unique)
    assert summaries.shape == (8, 4, 16)
    centers = _cells(batch, batch.neighbors[:, 0].tolist())
    found = model.embed_centers(centers, summaries, batch.neighbors[:, 1:], batch.distance[:, 1:])
    torch.testing.assert_close(found, model.embed(batch), rtol=0, atol=1e-5)


def test_rank_and_distance_are_read(batch: NeighborhoodBatch) -> None:
    torch.manual_seed(0)
    model = small(12).eval()
    before = model.embed(batch)
    swapped = replace(batch, neighbors=batch.neighbors[:, [0, 2, 1, 3]])
    farther = replace(batch, distance=batch.distance * 3)
    full = [0, 2]  # centres without absent neighbours
    assert (model.embed(swapped) - before)[full].abs().max() > 1e-4
    assert (model.embed(farther) - before).abs().max() > 1e-4


def test_absent_neighbours_say_nothing(batch: NeighborhoodBatch) -> None:
    model = small(12).eval()
    more = torch.full((batch.num_cells, 2), -1)
    wider = replace(
        batch,
        neighbors=torch.cat([batch.neighbors, more], dim=1),
        distance=torch.cat([batch.distance, torch.full(more.shape, torch.inf)], dim=1),
    )
    torch.testing.assert_close(model.embed(wider), model.embed(batch), rtol=0, atol=1e-6)


def test_a_hidden_gene_is_learnt_from_neighbours() -> None:
    """Gene 0 of a cell is drawn by how many of its six nearest cells are of one kind; its own genes know nothing."""
    learnt, alone = explained(n_neighbors=6), explained(n_neighbors=0, steps=40)
    assert learnt > 0.5
    assert alone < 0.1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"pooling": "class"}, "pooling must be one of max, mean"), ({"num_summaries": 0}, "num_summaries of at least 1")],
)
def test_wrong_arguments(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        small(12, **wrong)


def test_nothing_hidden_is_said(batch: NeighborhoodBatch) -> None:
    model, plain = small(12), replace(batch, hidden=None)
    with pytest.raises(InputError, match="No genes of this batch"):
        model.predict_hidden(model(plain), plain)


def explained(n_neighbors: int, steps: int = 80) -> float:
    """Share of the variance of gene 0 that is explained in another slice."""
    torch.manual_seed(0)
    model = small(19, hidden_channels=32)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    rng = np.random.default_rng(0)
    cells, truth = tissue(1, n_neighbors)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 5e-3 * min(1, step / 10) * (1 - step / steps)
        batch = asked(cells, truth, rng.choice(len(truth), 32, replace=False))
        loss = (model.predict_hidden(model(batch), batch) - batch.hidden.truth).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    cells, truth = tissue(2, n_neighbors)
    batch = asked(cells, truth, np.arange(len(truth)))
    with torch.no_grad():
        error = model.predict_hidden(model(batch), batch) - batch.hidden.truth
    return 1 - float(error.square().mean() / batch.hidden.truth.var())


def tissue(seed: int, n_neighbors: int, n: int = 500) -> tuple[NeighborhoodSequences, np.ndarray]:
    """Cells of three kinds in no order, each with genes of its own, and gene 0, which is nowhere in the tokens."""
    rng = np.random.default_rng(seed)
    pos, kind = rng.uniform(0, 10 * n**0.5, (n, 2)), rng.integers(0, 3, n)
    rate = np.full((3, 19), 0.3)
    for k in range(3):
        rate[k, 1 + 6 * k : 7 + 6 * k] = 2.0
    counts = rng.poisson(rate[kind])
    counts[:, 0] = 0
    row, gene = counts.nonzero()
    indptr = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=n))])
    tokens = RaggedTokens(gene.astype(np.int32), indptr, counts[row, gene].astype(np.float32))
    truth = 3 * (kind[cKDTree(pos).query(pos, 7)[1][:, 1:]] == 0).mean(1)
    itself = Neighborhoods(np.arange(n)[:, None], np.zeros((n, 1)))
    around = neighborhoods(pos, n_neighbors) if n_neighbors else itself
    return NeighborhoodSequences([tokens], [around], [np.arange(19)], num_genes=19), truth.astype(np.float32)


def asked(cells: NeighborhoodSequences, truth: np.ndarray, rows: np.ndarray) -> NeighborhoodBatch:
    """Gene 0 of some cells is asked for."""
    hidden = HiddenGenes(torch.arange(len(rows)), torch.zeros(len(rows), dtype=torch.int64), torch.tensor(truth[rows]))
    return replace(cells[rows], hidden=hidden)


def _cells(batch: NeighborhoodBatch, rows: list[int]) -> object:
    """Some cells of a batch as a batch of cells."""
    cells = batch.unique
    spans = [torch.arange(int(cells.offsets[row]), int(cells.offsets[row + 1])) for row in rows]
    at = torch.cat(spans)
    ends = torch.tensor([0, *(len(span) for span in spans)]).cumsum(0)
    return replace(cells, tokens=cells.tokens[at], values=cells.values[at], offsets=ends, cell=cells.cell[rows])
