import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stgraph.data import neighborhood_batch
from stgraph.data.cell_batch import CellBatch
from stgraph.data.neighborhood_batch import HiddenGenes, NeighborhoodBatch
from stgraph.errors import InputError


def batch_of(lengths, neighbors):
    offsets = torch.tensor([0, *np.cumsum(lengths)], dtype=torch.int64)
    total = int(offsets[-1])
    cells = CellBatch(torch.arange(total), offsets, torch.arange(len(lengths)) + 50, torch.arange(total) / 2)
    neighbors = torch.tensor(neighbors, dtype=torch.int64)
    panel = torch.zeros(len(neighbors), dtype=torch.int64)
    return NeighborhoodBatch(cells, neighbors, torch.zeros(neighbors.shape), panel, (torch.arange(total),))


@st.composite
def batches(draw):
    lengths = draw(st.lists(st.integers(0, 4), min_size=1, max_size=6))
    s, slots = draw(st.integers(0, 5)), draw(st.integers(1, 4))
    rows = draw(st.lists(st.integers(-1, len(lengths) - 1), min_size=s * slots, max_size=s * slots))
    return batch_of(lengths, np.reshape(rows, (s, slots)))


def packed_by_hand(batch):
    """Positions and slots of the tokens of each sequence."""
    begin = batch.unique.offsets.tolist()
    return [
        [(t, slot) for slot, row in enumerate(cells) if row >= 0 for t in range(begin[row], begin[row + 1])]
        for cells in batch.neighbors.tolist()
    ]


@given(batches())
def test_packed_is_every_token_of_every_cell_in_order(batch):
    packed, expected = batch.pack(), packed_by_hand(batch)
    assert list(zip(packed.source.tolist(), packed.slot.tolist(), strict=True)) == list(itertools.chain(*expected))
    assert packed.lengths.tolist() == [len(tokens) for tokens in expected]
    assert packed.center_tokens.tolist() == [sum(slot == 0 for _, slot in tokens) for tokens in expected]
    assert packed.row_of_token.tolist() == [s for s, tokens in enumerate(expected) for _ in tokens]
    assert packed.num_tokens == len(packed.source)
    assert packed.slot[packed.center_positions].tolist() == [0] * int(packed.center_tokens.sum())
    assert batch.pack() is packed


@given(batches())
def test_packing_for_other_devices_is_the_same(batch):
    ends = torch.tensor(np.cumsum([len(tokens) for tokens in _by_entry(batch)]), dtype=torch.int64)
    total = int(ends[-1]) if len(ends) else 0
    source, slot = neighborhood_batch._packed(batch.neighbors, batch.unique.offsets, ends, total)
    assert torch.equal(source, batch.pack().source)
    assert torch.equal(slot, batch.pack().slot)


def _by_entry(batch):
    begin = batch.unique.offsets.tolist()
    return [range(begin[row], begin[row + 1]) if row >= 0 else [] for row in batch.neighbors.flatten().tolist()]


@given(batches(), st.integers(0, 99))
def test_what_is_kept_stays_in_order(batch, seed):
    packed = batch.pack()
    kept = torch.from_numpy(np.random.default_rng(seed).random(packed.num_tokens) < 0.5)
    less, row = packed.keep(kept), packed.row_of_token[kept]
    assert torch.equal(less.source, packed.source[kept])
    assert torch.equal(less.row_of_token, row)
    assert torch.equal(less.slot, packed.slot[kept])
    assert less.center_tokens.tolist() == [int(((row == s) & (less.slot == 0)).sum()) for s in range(batch.num_cells)]


def test_a_batch_of_no_cells_and_one_without_tokens():
    none = batch_of([2], np.zeros((0, 3)))
    assert (none.num_cells, none.num_slots, none.pack().offsets.tolist(), none.cell.tolist()) == (0, 3, [0], [])
    assert batch_of([0], [[0, -1]]).pack().offsets.tolist() == [0, 0]


def test_the_packed_tokens_of_an_objective_come_first_and_all_of_it_moves():
    batch = batch_of([2, 1], [[1, 0], [0, -1]])
    less = batch.pack().keep(torch.tensor([True, False, True, True, True]))
    hidden = HiddenGenes(torch.tensor([0]), torch.tensor([2]), torch.tensor([1.5]))
    spoilt = neighborhood_batch.replace(batch, packed=less, hidden=hidden)
    assert spoilt.pack() is less
    assert spoilt.cell.tolist() == [51, 50]
    moved = spoilt.to("meta")
    assert isinstance(moved.hidden, HiddenGenes)
    tensors = [moved.unique.values, moved.neighbors, moved.distance, moved.panel, *moved.panels, moved.packed.source]
    assert {tensor.device.type for tensor in [*tensors, moved.packed.offsets, *moved.hidden]} == {"meta"}
    assert batch.to("cpu").packed is None


def test_arrays_that_do_not_fit_are_refused():
    good = batch_of([2], [[0, 0]])
    for name, wrong in (
        ("neighbors", good.neighbors[0]),
        ("distance", torch.zeros(1, 3)),
        ("panel", torch.zeros(2)),
        ("neighbors", torch.zeros(1, 0)),
    ):
        with pytest.raises(InputError, match=r"needs neighbors and distance \(S, K \+ 1\) and panel \(S,\), not"):
            neighborhood_batch.replace(good, **{name: wrong})
    with pytest.raises(InputError, match="needs the values of the tokens"):
        neighborhood_batch.replace(good, unique=neighborhood_batch.replace(good.unique, values=None))
