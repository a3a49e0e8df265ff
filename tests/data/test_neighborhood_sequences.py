import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from stgraph.data.depth_values import BatchDepth, CellDepth
from stgraph.data.neighborhood_sequences import NeighborhoodSequences
from stgraph.data.token_budget import TokenBudgetSampler
from stgraph.errors import InputError
from stgraph.graph.neighborhoods import Neighborhoods
from stgraph.preprocess.ragged_tokens import RaggedTokens

G = 12
PANELS = [np.arange(G), np.array([0, 1, 2, 5, 7, 8, 11])]


def expressed(rng, n, panel, *, least=0):
    """Some genes of a panel for each cell, with counts."""
    rows = [
        np.sort(rng.choice(panel, size=rng.integers(least, len(panel) + 1), replace=False)).astype(np.int32)
        for _ in range(n)
    ]
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    tokens = np.concatenate(rows) if rows else np.zeros(0, np.int32)
    return RaggedTokens(tokens, indptr, rng.integers(1, 9, size=len(tokens)).astype(np.float32))


def around(rng, n, k, num_cells=None):
    """Any cells, each first with itself; some places are empty."""
    index = rng.integers(-1, num_cells or n, size=(n, k + 1))
    index[:, 0] = np.arange(n)
    return Neighborhoods(index, np.where(index < 0, np.inf, rng.random(index.shape)))


def by_hand(slices, tables, chosen, depth, *, tokens=2):
    """Sequence of (gene, value, slot) of each centre, one token after another."""
    number = [(which, row) for which, table in enumerate(tables) for row in range(len(table))]
    sequences = []
    for cell in chosen:
        which, row = number[cell]
        sequence = []
        for slot, other in enumerate(tables[which].index[row]):
            if other < 0:
                continue
            own = slice(*slices[which].indptr[other : other + 2])
            counts = slices[which].values[own].astype(np.float64)
            values = np.minimum(np.log1p(counts / counts.sum() * depth.target), depth.clip)
            sequence += list(zip(slices[which].tokens[own].tolist(), values, [slot] * len(values), strict=True))
            total = np.log10(counts.sum()) if len(counts) else -np.inf
            sequence += [(G + extra, min(max(total, depth.floor), depth.clip), slot) for extra in range(tokens)]
        sequences.append(sequence)
    return sequences


def assert_equal(batch, sequences):
    packed = batch.pack()
    assert packed.lengths.tolist() == [len(sequence) for sequence in sequences]
    flat = [token for sequence in sequences for token in sequence]
    assert batch.unique.tokens[packed.source].tolist() == [gene for gene, _, _ in flat]
    assert packed.slot.tolist() == [slot for _, _, slot in flat]
    np.testing.assert_allclose(batch.unique.values[packed.source], [value for _, value, _ in flat], rtol=1e-5)


@given(st.integers(0, 10**6), st.integers(0, 4), st.booleans())
@settings(max_examples=40)
def test_a_batch_holds_what_a_loop_over_cells_and_tokens_finds(seed, k, depth_tokens):
    rng = np.random.default_rng(seed)
    slices = [expressed(rng, n, panel, least=not depth_tokens) for n, panel in ((5, PANELS[0]), (7, PANELS[1]))]
    tables = [around(rng, len(ragged), k) for ragged in slices]
    depth = CellDepth(floor=0.5, clip=7.0, depth_tokens=depth_tokens)
    cells = NeighborhoodSequences(slices, tables, PANELS, num_genes=G, depth=depth)
    chosen = rng.integers(0, 12, size=rng.integers(0, 9))  # a cell may be asked for twice
    batch = cells[chosen]
    expected = by_hand(slices, tables, chosen, depth, tokens=2 * depth_tokens)
    assert_equal(batch, expected)
    assert cells.lengths[chosen].tolist() == [len(sequence) for sequence in expected]
    assert batch.cell.tolist() == chosen.tolist()
    first = np.where(chosen < 5, 0, 5)
    table = np.concatenate([table.index for table in tables])[chosen]
    there = batch.neighbors.numpy() >= 0
    assert np.array_equal(there, table >= 0)
    numbers = batch.unique.cell.numpy()[batch.neighbors.numpy()]
    assert np.array_equal(numbers[there], (table + first[:, None])[there])
    assert len(np.unique(batch.unique.cell)) == batch.unique.num_cells  # each cell once
    distance = np.concatenate([table.distance for table in tables])[chosen].astype(np.float32)
    assert np.array_equal(batch.distance.numpy(), distance)
    told = zip(batch.panel, chosen, strict=True)
    assert all(batch.panels[panel].tolist() == PANELS[int(cell >= 5)].tolist() for panel, cell in told)


def test_a_cell_that_depends_on_its_slot_is_there_once_for_each_place():
    rng = np.random.default_rng(0)
    tables = [around(rng, 6, 3)]
    cells = NeighborhoodSequences([expressed(rng, 6, PANELS[0])], tables, PANELS[:1], num_genes=G, depth=BatchDepth())
    batch = cells[[4, 1, 4]]
    index = tables[0].index[[4, 1, 4]]
    assert batch.unique.cell.tolist() == index[index >= 0].tolist()
    assert np.array_equal(batch.neighbors.numpy() >= 0, index >= 0)
    # The same cell as centre of two sequences: the same slot, so the same values.
    twice = [batch.unique.values[slice(*batch.unique.offsets[row : row + 2])] for row in batch.neighbors[[0, 2], 0]]
    assert torch.equal(*twice)


def test_cells_that_are_neighbours_only_have_no_number():
    rng = np.random.default_rng(1)
    slices = [expressed(rng, 8, PANELS[0]), expressed(rng, 4, PANELS[0])]
    tables = [around(rng, 3, 2, num_cells=8), around(rng, 4, 2)]
    tables[0].index[:, 1] = [5, 7, 2]
    cells = NeighborhoodSequences(slices, tables, [PANELS[0]] * 2, num_genes=G)
    assert (len(cells), cells.first.tolist(), len(cells.panels)) == (7, [0, 3, 7], 1)
    batch = cells[[0, 1, 2, 3, 6]]
    assert_equal(batch, by_hand(slices, tables, [0, 1, 2, 3, 6], CellDepth()))
    assert batch.unique.cell[batch.neighbors[:3, 1]].tolist() == [-1, -1, 2]
    assert batch.cell.tolist() == [0, 1, 2, 3, 6]


def test_it_is_loaded_by_a_budget_of_tokens():
    rng = np.random.default_rng(2)
    cells = NeighborhoodSequences([expressed(rng, 40, PANELS[0])], [around(rng, 40, 3)], PANELS[:1], num_genes=G)
    sampler = TokenBudgetSampler(cells, max_tokens=200, pool_batches=4)
    batches = list(DataLoader(cells, sampler=sampler, batch_size=None))
    assert sorted(np.concatenate([batch.cell for batch in batches]).tolist()) == list(range(40))
    assert max(batch.pack().num_tokens for batch in batches) <= 200


@pytest.fixture
def parts():
    rng = np.random.default_rng(3)
    return {"slices": [expressed(rng, 6, PANELS[1])], "neighborhoods": [around(rng, 6, 2)], "panels": [PANELS[1]]}


def test_parts_that_do_not_fit_are_refused(parts):
    good = parts["slices"][0]
    shifted = Neighborhoods(np.roll(parts["neighborhoods"][0].index, 1, axis=0), parts["neighborhoods"][0].distance)
    more = around(np.random.default_rng(0), 7, 2)
    wide = around(np.random.default_rng(0), 6, 3)
    for change, message in (
        ({"slices": []}, "at least one slice, not 0, 1 and 1"),
        ({"panels": []}, "at least one slice, not 1, 1 and 0"),
        ({"slices": [RaggedTokens(good.tokens, good.indptr)]}, r"Slice 0 \(from 0\) has tokens without counts"),
        ({"neighborhoods": [more]}, "has 6 cells with tokens, but neighbourhoods of 7"),
        ({"neighborhoods": [shifted]}, "without the cell itself in the first column"),
        ({"panels": [np.array([1, 0])]}, "has a panel that does not rise from 0 to 11"),
        ({"panels": [np.array([0, G])]}, "has a panel that does not rise from 0 to 11"),
        ({"panels": [PANELS[1][:-1]]}, "has tokens of genes that are not in its panel"),
    ):
        with pytest.raises(InputError, match=message):
            NeighborhoodSequences(**(parts | change), num_genes=G)
    with pytest.raises(InputError, match=r"equally many cells, not \[3, 4\]"):
        NeighborhoodSequences([good] * 2, [*parts["neighborhoods"], wide], [PANELS[1]] * 2, num_genes=G)


def test_empty_cells_need_depth_tokens(parts):
    values = np.zeros(1, np.float32) + 1
    empty = RaggedTokens(np.zeros(1, np.int32), np.array([0, 1, 1]), values)
    table = Neighborhoods(np.array([[0, 1], [1, 0]]), np.zeros((2, 2)))
    batch = NeighborhoodSequences([empty], [table], [np.arange(1)], num_genes=1)[[1]]
    assert batch.unique.tokens.tolist() == [1, 2, 0, 1, 2]
    assert torch.isfinite(batch.unique.values).all()
    parts = [*parts["slices"], empty], [Neighborhoods(np.arange(6)[:, None], np.zeros((6, 1)))] * 2
    parts[1][1] = Neighborhoods(np.arange(2)[:, None], np.zeros((2, 1)))
    with pytest.raises(InputError, match=r"Cell 1 of slice 1 \(both from 0\) has no counts of any gene of the list"):
        NeighborhoodSequences(*parts, [PANELS[1]] * 2, num_genes=G, depth=CellDepth(depth_tokens=False))


def test_cells_that_are_not_there(parts):
    cells = NeighborhoodSequences(**parts, num_genes=G)
    for asked in ([6], [-1]):
        with pytest.raises(IndexError, match="There are 6 cells"):
            cells[asked]
