import io

import numpy as np
import pytest
import torch
from rich.console import Console

from stgraph.data.cell_batch import CellBatch
from stgraph.errors import InputError
from stgraph.models.cell_network import CellNetwork, CellStates
from stgraph.models.rank_encoder import RankEncoder
from stgraph.preprocess.ragged_tokens import RaggedTokens
from stgraph.tasks import late_bar as module
from stgraph.tasks.embed_cells import embed_cells


class Watching(CellNetwork):
    """Embeds a cell as its tokens' sum and number, and writes down what it was given."""

    def __init__(self):
        super().__init__(100, hidden_channels=1, out_channels=2, pooling="class")
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.seen = []

    def forward(self, cells):
        return CellStates(cells.tokens, self.embed(cells))

    def embed(self, cells: CellBatch):
        self.seen.append((cells.lengths.tolist(), self.training, torch.is_grad_enabled()))
        sums = torch.stack([part.sum() for part in cells.tokens.split(cells.lengths.tolist())])
        return torch.stack([sums.double(), cells.lengths.double()], dim=1) * self.weight


def ragged(lengths):
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return RaggedTokens(np.arange(indptr[-1], dtype=np.int32) % 100, indptr)


def test_rows_are_those_of_the_cells_and_batches_are_sorted_and_small():
    cells = ragged([5, 2, 9, 2, 7, 1])
    network = Watching().train()
    found = embed_cells(network, cells, max_tokens=10)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, [[cells[i].sum(), len(cells[i])] for i in range(6)])
    assert [lengths for lengths, *_ in network.seen] == [[1, 2, 2, 5], [7], [9]]
    assert not any(training or grad for _, training, grad in network.seen)
    assert network.training  # as before


def test_numbers_do_not_depend_on_the_budget():
    torch.manual_seed(0)
    network = RankEncoder(100, 8, 16, dropout=0.5).train()
    cells = ragged(np.random.default_rng(0).integers(1, 40, 30))
    expected = embed_cells(network, cells, max_tokens=10**6)
    np.testing.assert_allclose(embed_cells(network, cells, max_tokens=40), expected, atol=1e-5)
    assert np.array_equal(embed_cells(network, cells, max_tokens=40), embed_cells(network, cells, max_tokens=40))
    order = np.random.default_rng(1).permutation(30)
    np.testing.assert_allclose(embed_cells(network, cells.take(order)), expected[order], atol=1e-5)


def test_no_cells():
    assert embed_cells(Watching(), ragged([])).shape == (0, 2)


def test_mode_is_as_before_after_a_failure():
    network = RankEncoder(5, 8, 16).train()
    with pytest.raises(InputError, match="belongs to other genes"):
        embed_cells(network, ragged([8]))
    assert network.training


def test_what_cannot_be_embedded():
    with pytest.raises(InputError, match="has no token"):
        embed_cells(Watching(), ragged([2, 0]))
    with pytest.raises(InputError, match="more than the 8 of a batch"):
        embed_cells(Watching(), ragged([2, 9]), max_tokens=8)


@pytest.mark.parametrize("patience", [-1.0, 1e9])
def test_a_bar_for_those_who_wait_at_a_terminal(monkeypatch, patience):
    shown = io.StringIO()
    monkeypatch.setattr(module, "_SECONDS", patience)
    monkeypatch.setattr(module, "Console", lambda stderr: Console(file=shown, force_terminal=True, width=80))
    embed_cells(Watching(), ragged([3] * 6), max_tokens=6)
    assert ("embedding cells" in shown.getvalue()) == (patience < 0)


def test_no_bar_in_a_log(monkeypatch, capfd):
    monkeypatch.setattr(module, "_SECONDS", -1.0)
    embed_cells(Watching(), ragged([3] * 6), max_tokens=6)
    assert capfd.readouterr() == ("", "")
