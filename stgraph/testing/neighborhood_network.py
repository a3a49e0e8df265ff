"""The contract of a network of cells with their neighbours."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from stgraph._config import instantiate
from stgraph.data.cell_batch import CellBatch
from stgraph.data.neighborhood_batch import HiddenGenes, NeighborhoodBatch
from stgraph.models.neighborhood_network import NeighborhoodNetwork, NeighborhoodStates
from stgraph.nn.module_config import module_config

NUM_GENES = 12

_TOLERANCE = 2e-5
"""Of float32 states of order one, after sums in another order."""


class NeighborhoodNetworkContract:
    """Inherit, and give ``make``: a network with random weights for a number of genes.

    Examples
    --------
    >>> from stgraph.models.aido_tissue import AIDOTissue
    >>> from stgraph.testing.neighborhood_network import NeighborhoodNetworkContract
    >>> class TestAIDOTissue(NeighborhoodNetworkContract):
    ...     make = staticmethod(lambda num_genes: AIDOTissue(num_genes, hidden_channels=16, num_layers=2))
    """

    make: Callable[[int], NeighborhoodNetwork]

    @pytest.fixture
    def batch(self) -> NeighborhoodBatch:
        """Cells of which some share neighbours, some lack one, with two panels and hidden genes."""
        return planted_neighborhoods()

    @pytest.fixture
    def model(self) -> NeighborhoodNetwork:
        """A network whose every weight matters: biases and scales are moved from where they start."""
        torch.manual_seed(0)
        model = self.make(NUM_GENES).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
        return model

    def test_shapes(self, model: NeighborhoodNetwork, batch: NeighborhoodBatch) -> None:
        """States of the tokens that the centres have, one embedding for each centre, one value for each hidden gene."""
        states = model(batch)
        lengths = batch.pack().center_tokens
        assert torch.equal(states.offsets.diff(), lengths)
        assert states.token.shape[0] == int(lengths.sum())
        assert states.center.shape == (batch.num_cells, model.out_channels)
        assert torch.equal(model.embed(batch), states.center)
        assert batch.hidden is not None
        assert model.predict_hidden(states, batch).shape == batch.hidden.gene.shape
        assert model.vocabulary_size == model.num_genes + 3 == NUM_GENES + 3

    def test_a_cell_depends_on_no_other(self, model: NeighborhoodNetwork, batch: NeighborhoodBatch) -> None:
        """A sequence alone has what it has in a batch, and the order of the sequences says nothing."""
        expected = _outcome(model, batch)
        for row in range(batch.num_cells):
            _assert_same(_outcome(model, of_rows(batch, [row])), expected, [row])
        order = [3, 0, 4, 2, 1]
        _assert_same(_outcome(model, of_rows(batch, order)), expected, order)

    def test_sharing_is_exact(self, model: NeighborhoodNetwork, batch: NeighborhoodBatch) -> None:
        """A neighbour of two centres may stand in the batch once or twice."""
        expected = _outcome(model, batch)
        _assert_same(_outcome(model, _unshared(batch)), expected, list(range(batch.num_cells)))

    def test_hidden_genes_are_not_seen(self, model: NeighborhoodNetwork, batch: NeighborhoodBatch) -> None:
        """Neither truth nor the values behind hidden tokens change anything; those of tokens that are left do."""
        assert batch.hidden is not None
        before = model(batch)
        values = batch.unique.values
        assert values is not None
        left = torch.zeros(len(values), dtype=torch.bool)
        left[batch.pack().source] = True
        changed = replace(
            batch,
            hidden=batch.hidden._replace(truth=batch.hidden.truth + 5.0),
            unique=replace(batch.unique, values=torch.where(left, values, values + 5.0)),
        )
        states = model(changed)
        assert torch.equal(before.center, states.center)
        assert torch.equal(model.predict_hidden(before, batch), model.predict_hidden(states, changed))
        shown = replace(batch, unique=replace(batch.unique, values=torch.where(left, values + 1.0, values)))
        assert (model.embed(shown) - before.center).abs().max() > 100 * _TOLERANCE

    def test_genes_that_are_hidden_from_all(self, model: NeighborhoodNetwork) -> None:
        """Where all centres hide the same, tokens may be taken from the distinct cells: the result is the same."""
        apart, shared = hidden_from_all([4, 7])
        assert shared.packed is None
        _assert_same(_outcome(model, shared), _outcome(model, apart), list(range(apart.num_cells)))
        assert shared.hidden is not None
        told = replace(shared, hidden=shared.hidden._replace(truth=shared.hidden.truth + 5.0))
        assert torch.equal(model.embed(told), model.embed(shared))
        for before, after in zip(_outcome(model, shared)[2], _outcome(model, told)[2], strict=True):
            assert torch.equal(before, after)

    def test_neighbors_are_read(self, model: NeighborhoodNetwork, batch: NeighborhoodBatch) -> None:
        """Without its neighbours a centre has another embedding."""
        alone = replace(batch, neighbors=batch.neighbors[:, :1], distance=batch.distance[:, :1], packed=None)
        everything = replace(batch, packed=None)
        assert (model.embed(alone) - model.embed(everything)).abs().max() > 100 * _TOLERANCE

    def test_gradients_reach_every_weight(self, model: NeighborhoodNetwork, batch: NeighborhoodBatch) -> None:
        """No weight that is trained is left out of training."""
        states = model.train()(batch)
        (states.center.square().sum() + model.predict_hidden(states, batch).square().sum()).backward()
        still = [
            name
            for name, p in model.named_parameters()
            if p.requires_grad and (p.grad is None or not p.grad.abs().sum() > 0)
        ]
        assert still == []

    def test_nothing_hidden(self, model: NeighborhoodNetwork, batch: NeighborhoodBatch) -> None:
        """No hidden genes are no values, with a gradient."""
        nothing = HiddenGenes(torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64), torch.zeros(0))
        none_hidden = replace(batch, hidden=nothing)
        values = model.predict_hidden(model(none_hidden), none_hidden)
        assert values.shape == (0,)
        values.sum().backward()  # type: ignore[no-untyped-call]

    def test_a_centre_that_lost_all_its_tokens(self, model: NeighborhoodNetwork, batch: NeighborhoodBatch) -> None:
        """States are finite all the same, and so are gradients."""
        packed = batch.pack()
        lost = replace(batch, packed=packed.keep((packed.row_of_token != 1) | (packed.slot > 0)))
        states = model(lost)
        values = model.predict_hidden(states, lost)
        assert torch.isfinite(states.center).all()
        assert torch.isfinite(values).all()
        (states.center.sum() + values.sum()).backward()
        assert all(p.grad is None or bool(torch.isfinite(p.grad).all()) for p in model.parameters())

    def test_config_and_weights_make_the_same_model(self, model: NeighborhoodNetwork, batch: NeighborhoodBatch) -> None:
        """Config and state dict are all there is to a model."""
        again = instantiate(module_config(model))
        again.load_state_dict(model.state_dict())
        assert torch.equal(model.embed(batch), again.eval().embed(batch))


def planted_neighborhoods(seed: int = 0) -> NeighborhoodBatch:
    """Five centres with up to three neighbours among eight cells of `NUM_GENES` genes, in two panels.

    Some genes of the centres are hidden, expressed ones and others, and the tokens of these genes are taken from all
    cells of the neighbourhood.
    """
    generator = torch.Generator().manual_seed(seed)
    g = NUM_GENES
    panels = (torch.arange(g), torch.arange(0, g, 2))
    expressed = torch.rand(8, g, generator=generator) < 0.5
    expressed[5:, 1::2] = False  # of the smaller panel
    expressed[:, 4] = True
    tokens = torch.cat([expressed, torch.ones(8, 2, dtype=torch.bool)], dim=1)
    row, token = tokens.nonzero(as_tuple=True)
    offsets = torch.nn.functional.pad(torch.bincount(row).cumsum(0), (1, 0))
    values = torch.rand(len(token), generator=generator) * 4 + 0.5
    neighbors = torch.tensor([[0, 1, 2, 3], [1, 0, 3, -1], [3, 2, 1, 0], [5, 6, 7, -1], [6, 5, 7, 4]])
    distance = torch.rand(neighbors.shape, generator=generator).sort(dim=1).values * 30
    distance[:, 0] = 0.0
    distance[neighbors < 0] = torch.inf
    batch = NeighborhoodBatch(
        CellBatch(token, offsets, torch.arange(8), values),
        neighbors,
        distance,
        torch.tensor([0, 0, 0, 1, 1]),
        panels,
    )
    columns = torch.zeros(5, g, dtype=torch.bool)
    columns[[0, 0, 1, 2, 3, 4], [4, 7, 4, 2, 0, 10]] = True
    return hide_columns(batch, columns)


def hide_columns(batch: NeighborhoodBatch, columns: Tensor) -> NeighborhoodBatch:
    """Hide genes of each centre, and take their tokens from its neighbours too.

    Parameters
    ----------
    batch
        Not hidden yet.
    columns
        (S, G) bool, which genes.
    """
    cells, packed = batch.unique, batch.pack()
    token = cells.tokens[packed.source]
    never = torch.zeros(batch.num_cells, 3, dtype=torch.bool)
    gone = torch.cat([columns, never], dim=1)[packed.row_of_token, token]
    row, gene = columns.nonzero(as_tuple=True)
    value = torch.zeros(columns.shape)
    of_center = (packed.slot == 0) & gone
    assert cells.values is not None
    value[packed.row_of_token[of_center], token[of_center]] = cells.values[packed.source[of_center]]
    return replace(batch, packed=packed.keep(~gone), hidden=HiddenGenes(row, gene, value[row, gene]))


def hidden_from_all(genes: list[int]) -> tuple[NeighborhoodBatch, NeighborhoodBatch]:
    """`planted_neighborhoods` with the same genes hidden from all centres.

    Parameters
    ----------
    genes
        Which; centres whose panel lacks one are not asked for it.

    Returns
    -------
    apart, shared
        Tokens are taken from the sequences, as where each centre hides genes of its own; and from the distinct cells.
    """
    batch = replace(planted_neighborhoods(), packed=None, hidden=None)
    measured = torch.zeros(batch.num_cells, NUM_GENES, dtype=torch.bool)
    for row, number in enumerate(batch.panel.tolist()):
        measured[row, batch.panels[number]] = True
    asked = torch.zeros_like(measured)
    asked[:, genes] = True
    apart = hide_columns(batch, asked)
    assert apart.hidden is not None
    kept = measured[apart.hidden.row, apart.hidden.gene]
    hidden = HiddenGenes(*(each[kept] for each in apart.hidden))
    cells = batch.unique
    assert cells.values is not None
    left = ~torch.isin(cells.tokens, torch.tensor(genes))
    lengths = torch.bincount(cells.row_of_token[left], minlength=cells.num_cells)
    unique = replace(
        cells,
        tokens=cells.tokens[left],
        values=cells.values[left],
        offsets=torch.nn.functional.pad(lengths.cumsum(0), (1, 0)),
    )
    return replace(apart, hidden=hidden), replace(batch, unique=unique, hidden=hidden)


def of_rows(batch: NeighborhoodBatch, rows: list[int]) -> NeighborhoodBatch:
    """Some sequences of a batch, in that order, with all distinct cells."""
    packed = batch.pack()
    parts = [torch.arange(int(packed.offsets[row]), int(packed.offsets[row + 1])) for row in rows]
    kept = torch.cat(parts)
    lengths = torch.tensor([0, *(len(part) for part in parts)])
    hidden = None
    if batch.hidden is not None:
        at = [(batch.hidden.row == row).nonzero()[:, 0] for row in rows]
        new_row = torch.arange(len(rows)).repeat_interleave(torch.tensor([len(each) for each in at]))
        hidden = HiddenGenes(new_row, batch.hidden.gene[torch.cat(at)], batch.hidden.truth[torch.cat(at)])
    return replace(
        batch,
        neighbors=batch.neighbors[rows],
        distance=batch.distance[rows],
        panel=batch.panel[rows],
        packed=replace(
            packed,
            source=packed.source[kept],
            slot=packed.slot[kept],
            offsets=lengths.cumsum(0),
            center_tokens=packed.center_tokens[rows],
        ),
        hidden=hidden,
    )


def _unshared(batch: NeighborhoodBatch) -> NeighborhoodBatch:
    """The same with every cell twice, the second half of the sequences on the copies."""
    cells, packed, v = batch.unique, batch.pack(), batch.unique.num_cells
    assert cells.values is not None
    twice = replace(
        cells,
        tokens=cells.tokens.repeat(2),
        offsets=torch.cat([cells.offsets, cells.offsets[1:] + cells.num_tokens]),
        cell=cells.cell.repeat(2),
        values=cells.values.repeat(2),
    )
    late = torch.arange(batch.num_cells) >= batch.num_cells // 2
    return replace(
        batch,
        unique=twice,
        neighbors=torch.where((batch.neighbors >= 0) & late[:, None], batch.neighbors + v, batch.neighbors),
        packed=replace(packed, source=packed.source + late[packed.row_of_token] * cells.num_tokens),
    )


def _outcome(model: NeighborhoodNetwork, batch: NeighborhoodBatch) -> tuple[list[Tensor], Tensor, list[Tensor]]:
    """By sequence: states of tokens, embedding, hidden values."""
    with torch.no_grad():
        states: NeighborhoodStates = model(batch)
        values = model.predict_hidden(states, batch)
    assert batch.hidden is not None
    by_row = [values[batch.hidden.row == row] for row in range(batch.num_cells)]
    return list(torch.split(states.token, states.offsets.diff().tolist())), states.center, by_row


def _assert_same(
    found: tuple[list[Tensor], Tensor, list[Tensor]],
    expected: tuple[list[Tensor], Tensor, list[Tensor]],
    rows: list[int],
) -> None:
    torch.testing.assert_close(found[1], expected[1][rows], rtol=0, atol=_TOLERANCE)
    for at, row in enumerate(rows):
        torch.testing.assert_close(found[0][at], expected[0][row], rtol=0, atol=_TOLERANCE)
        torch.testing.assert_close(found[2][at], expected[2][row], rtol=0, atol=_TOLERANCE)
