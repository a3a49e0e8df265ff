import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stgraph.data.cell_batch import CellBatch
from stgraph.data.neighborhood_batch import NeighborhoodBatch
from stgraph.errors import InputError
from stgraph.models.neighborhood_network import NeighborhoodNetwork, NeighborhoodStates
from stgraph.objectives.base import WeightedSum
from stgraph.objectives.masked_columns import MaskedColumns

GENES = 12


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def neighborhoods(num_cells=9, num_slots=4, num_genes=GENES, seed=0, depth_tokens=True, share=0.5):
    """Cells of random genes with random neighbours, some of which are missing; two panels, one without genes 0 and 5.

    Every cell of the batch is a centre, but for the last two.
    """
    rng = np.random.default_rng(seed)
    panels = (torch.arange(num_genes), torch.tensor([g for g in range(num_genes) if g not in (0, 5)]))
    panel = rng.integers(0, 2, num_cells)
    tokens, lengths = [], []
    for cell in range(num_cells):
        genes = [int(g) for g in panels[panel[cell]] if rng.random() < share]
        genes = genes or [1]
        tokens += genes + ([num_genes, num_genes + 1] if depth_tokens else [])
        lengths.append(len(genes) + 2 * depth_tokens)
    unique = CellBatch(
        torch.tensor(tokens),
        torch.tensor(np.concatenate([[0], np.cumsum(lengths)])),
        torch.arange(num_cells) + 100,
        torch.from_numpy(rng.uniform(0.1, 5, len(tokens)).astype(np.float32)),
    )
    centers = num_cells - 2
    others = rng.integers(-1, num_cells, (centers, num_slots - 1))
    neighbors = np.column_stack([np.arange(centers), others])
    distance = np.where(neighbors >= 0, np.arange(num_slots), np.inf).astype(np.float32)
    return NeighborhoodBatch(
        unique, torch.from_numpy(neighbors), torch.from_numpy(distance), torch.from_numpy(panel[:centers]), panels
    )


def of_cell(batch, cell):
    """Values by token of a cell of ``unique``."""
    begin, end = batch.unique.offsets[cell : cell + 2].tolist()
    return dict(zip(batch.unique.tokens[begin:end].tolist(), batch.unique.values[begin:end].tolist(), strict=True))


def seen(batch):
    """What a network sees: by centre and slot, the values by token."""
    packed = batch.pack()
    out = [[{} for _ in range(batch.num_slots)] for _ in range(batch.num_cells)]
    for source, slot, row in zip(packed.source, packed.slot, packed.row_of_token, strict=True):
        out[int(row)][int(slot)][int(batch.unique.tokens[source])] = float(batch.unique.values[source])
    return out


def hidden_of(batch):
    """Hidden genes and their truths by centre."""
    out = [{} for _ in range(batch.num_cells)]
    for row, gene, truth in zip(*(each.tolist() for each in batch.hidden), strict=True):
        assert gene not in out[row], "a gene is hidden once"
        out[row][gene] = truth
    return out


CASES = st.builds(
    neighborhoods,
    num_cells=st.integers(3, 9),
    num_slots=st.integers(1, 4),
    seed=st.integers(0, 99),
    share=st.sampled_from([0.0, 0.3, 0.9]),
)


@given(CASES, st.booleans(), st.integers(0, 99))
@settings(deadline=None, max_examples=60)
def test_by_brute_force(batch, shared, seed):
    """Nothing hidden is left in any slot, all else is left, and the truth is what the centre had."""
    spoilt = MaskedColumns(0.5, 0.2, shared=shared).corrupt(batch, generator(seed))
    hidden, left = hidden_of(spoilt), seen(spoilt)
    for row, (genes, slots) in enumerate(zip(hidden, left, strict=True)):
        center = of_cell(batch, int(batch.neighbors[row, 0]))
        panel = set(batch.panels[int(batch.panel[row])].tolist())
        assert set(genes) <= panel
        assert all(truth == center.get(gene, 0.0) for gene, truth in genes.items())
        for slot, cell in enumerate(batch.neighbors[row].tolist()):
            was = {} if cell < 0 else of_cell(batch, cell)
            assert not set(slots[slot]) & set(genes)
            if not shared or slot == 0:  # shared columns may be zero in the centre, and not asked for
                assert slots[slot] == {token: value for token, value in was.items() if token not in genes}
    packed = spoilt.pack()
    assert packed.center_tokens.tolist() == [len(slots[0]) for slots in left]
    assert packed.lengths.tolist() == [sum(map(len, slots)) for slots in left]
    order = packed.row_of_token * batch.num_slots + packed.slot
    assert bool((order.diff() >= 0).all())


@given(CASES, st.integers(0, 99))
@settings(deadline=None, max_examples=30)
def test_shared_columns_are_gone_from_all_cells_alike(batch, seed):
    spoilt = MaskedColumns(0.5, 0.2, shared=True).corrupt(batch, generator(seed))
    assert spoilt.packed is None
    was = [of_cell(batch, cell) for cell in range(batch.unique.num_cells)]
    left = [of_cell(spoilt, cell) for cell in range(batch.unique.num_cells)]
    taken = set().union(*({*a} - {*b} for a, b in zip(was, left, strict=True)))
    assert left == [{gene: value for gene, value in cell.items() if gene not in taken} for cell in was]
    assert not taken & {GENES, GENES + 1}
    # All that a centre lost is asked for.
    hidden = hidden_of(spoilt)
    assert all({*was[row]} & taken <= {*genes} for row, genes in enumerate(hidden))


@pytest.mark.parametrize("shared", [False, True])
def test_rates(shared):
    """Over many draws, each kind of gene is hidden at its own rate."""
    batch, objective = neighborhoods(num_cells=42, num_genes=200, share=0.3), MaskedColumns(0.4, 0.05, shared=shared)
    centers = [of_cell(batch, row) for row in range(40)]
    expressed = sum(len(center) - 2 for center in centers)
    zeros = sum(len(batch.panels[int(panel)]) for panel in batch.panel) - expressed
    hidden = [objective.corrupt(batch, generator(seed)).hidden for seed in range(30)]
    nonzero = np.mean([int((each.truth > 0).sum()) for each in hidden])
    zero = np.mean([int((each.truth == 0).sum()) for each in hidden])
    assert nonzero / expressed == pytest.approx(0.4, rel=0.05)
    assert zero / zeros == pytest.approx(0.05, rel=0.06)


def test_no_zeros_where_their_rate_is_none():
    spoilt = MaskedColumns(0.5, 0.0).corrupt(neighborhoods(), generator())
    assert len(spoilt.hidden.truth) > 0
    assert bool((spoilt.hidden.truth > 0).all())


@pytest.mark.parametrize("shared", [False, True])
def test_one_seed_one_draw_and_the_batch_stays(shared):
    batch, objective = neighborhoods(), MaskedColumns(shared=shared)
    before = copy.deepcopy(batch)
    first, again, other = (objective.corrupt(batch, generator(seed)).hidden for seed in (0, 0, 1))
    assert torch.equal(first.gene, again.gene)
    assert not torch.equal(first.gene, other.gene)
    assert batch.hidden is None
    assert batch.packed is None
    assert torch.equal(batch.unique.tokens, before.unique.tokens)
    assert torch.equal(batch.unique.values, before.unique.values)


def test_a_centre_shows_something_also_without_depth_tokens():
    """Cells of one or two genes at a rate that would hide nearly all of them."""
    batch = neighborhoods(num_cells=60, depth_tokens=False, share=0.05)
    spoilt = MaskedColumns(0.9).corrupt(batch, generator())
    assert bool((spoilt.pack().center_tokens > 0).all())
    assert any(truth > 0 for genes in hidden_of(spoilt) for truth in genes.values())
    with pytest.raises(InputError, match="took all tokens of a cell: give cells their depth tokens"):
        MaskedColumns(0.9, shared=True).corrupt(batch, generator())


class Known(NeighborhoodNetwork):
    """Says what is visible to it: by centre and gene, the largest value in any slot; and remembers nothing else."""

    def __init__(self, shift=0.0, truth=None):
        super().__init__()
        self.num_genes, self.out_channels, self.shift, self.truth = (
            GENES,
            1,
            torch.nn.Parameter(torch.tensor(shift)),
            truth,
        )

    def forward(self, batch):
        packed = batch.pack()
        table = torch.zeros(batch.num_cells, self.vocabulary_size)
        place = packed.row_of_token, batch.unique.tokens[packed.source]
        table = table.index_put(place, batch.unique.values[packed.source], accumulate=True)
        return NeighborhoodStates(torch.zeros(0, 1), torch.zeros(batch.num_cells + 1), table)

    def predict_hidden(self, states, batch):
        table = states.center if self.truth is None else self.truth
        return table[batch.hidden.row, batch.hidden.gene] + self.shift


@pytest.mark.parametrize("shared", [False, True])
def test_a_network_that_knew_the_truth_would_score_zero_and_what_is_seen_does_not_tell_it(shared):
    batch, objective = neighborhoods(num_cells=40), MaskedColumns(0.5, 0.2, shared=shared)
    table = torch.zeros(38, GENES)
    for row in range(38):
        for gene, value in of_cell(batch, row).items():
            if gene < GENES:
                table[row, gene] = value
    spoilt = objective.corrupt(batch, generator())

    def loss(network):
        return float(objective.loss(network, network(spoilt), spoilt).detach())

    assert loss(Known(truth=table)) == 0.0
    assert loss(Known(0.5, table)) == pytest.approx(0.25)
    # Of hidden genes nothing is visible: the best reader of what is left reads zeros.
    assert loss(Known()) == pytest.approx(float((spoilt.hidden.truth**2).mean()))
    assert loss(Known()) > 1


def test_loss_of_a_step_is_a_mean_over_hidden_values():
    batch, objective = neighborhoods(), WeightedSum([MaskedColumns(0.5, weight=2.0)])
    spoilt = objective.corrupt(batch, generator())
    assert float(objective.counts(spoilt)["masked_columns"]) == len(spoilt.hidden.gene)
    losses = objective.losses(Known(), spoilt)
    expected = float((spoilt.hidden.truth**2).mean())
    assert float(losses["masked_columns"].detach()) == pytest.approx(expected)
    assert float(losses["loss"].detach()) == pytest.approx(2 * expected)


def test_nothing_to_judge_is_zero_with_a_gradient():
    batch = neighborhoods(num_cells=3, share=0.0)
    spoilt = MaskedColumns(1e-9, 0.0).corrupt(batch, generator())
    network = Known()
    loss = MaskedColumns().loss(network, network(spoilt), spoilt)
    loss.backward()
    assert float(MaskedColumns().count(spoilt)) == float(loss.detach()) == 0.0
    assert float(network.shift.grad) == 0.0


def test_only_one_objective_hides():
    spoilt = MaskedColumns().corrupt(neighborhoods(), generator())
    with pytest.raises(InputError, match="hidden already, by other settings perhaps: of all objectives only one"):
        MaskedColumns(0.9).corrupt(spoilt, generator(1))


def test_the_truth_of_what_is_judged_has_to_be_there():
    with pytest.raises(InputError, match="No genes of this batch were hidden"):
        MaskedColumns().count(neighborhoods())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"nonzero_rate": 0.0}, "nonzero_rate between 0 and 1"),
        ({"nonzero_rate": 1.0}, "nonzero_rate between 0 and 1"),
        ({"zero_rate": -0.1}, "zero_rate from 0 to below 1"),
        ({"zero_rate": 0.4, "shared": True}, "lower zero_rate to at most 0.3"),
    ],
)
def test_bad_arguments(arguments, said):
    with pytest.raises(InputError, match=said):
        MaskedColumns(**arguments)
