import itertools

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from stgraph.data.cell_sequences import CellSequences
from stgraph.data.token_budget import TokenBudgetSampler, cut_by_budget, neighbor_groups
from stgraph.errors import InputError
from stgraph.preprocess.ragged_tokens import RaggedTokens

lengths = st.lists(st.integers(1, 9), max_size=40).map(lambda values: np.array(values, dtype=np.int64))


@given(lengths, st.integers(9, 30), st.none() | st.integers(1, 6), st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_batches_are_within_bounds_and_as_large_as_can_be(lengths, max_tokens, max_cells, seed):
    begins = np.random.default_rng(seed).random(len(lengths)) < 0.5
    begins[:1] = True
    for groups in (None, begins):
        ends = cut_by_budget(lengths, max_tokens, max_cells, begins=groups)
        assert ends[0] == 0
        assert ends[-1] == len(lengths)
        for begin, end in itertools.pairwise(ends):
            assert begin < end
            assert lengths[begin:end].sum() <= max_tokens
            assert max_cells is None or end - begin <= max_cells
            if end == len(lengths):
                continue
            full = lengths[begin : end + 1].sum() > max_tokens or end - begin == max_cells
            if groups is None:
                assert full
            elif not begins[end]:  # a group is cut only if it began with the batch, and there was no room
                assert full
                assert not begins[begin + 1 : end].any()
            else:
                follow = np.flatnonzero(begins[end + 1 :])
                stop = end + 1 + follow[0] if len(follow) else len(lengths)
                with_next = lengths[begin:stop]
                assert with_next.sum() > max_tokens or (max_cells is not None and len(with_next) > max_cells)


def test_groups_take_the_neighbours_that_come_first_and_each_cell_once():
    rng = np.random.default_rng(0)
    n, k = 60, 4
    indices = np.concatenate([rng.choice(n, size=k, replace=False) for _ in range(n)])
    indptr = np.arange(n + 1) * k
    order = rng.permutation(n)
    cells, begins = neighbor_groups(indptr, indices, order, 2)
    rank = np.argsort(order)
    left, expected, expected_begins = set(range(n)), [], []
    for cell in order:
        if cell not in left:
            continue
        left.discard(cell)
        near = sorted((set(indices[indptr[cell] : indptr[cell + 1]]) & left), key=lambda other: rank[other])[:2]
        left -= set(near)
        expected += [cell, *near]
        expected_begins += [True] + [False] * len(near)
    assert cells.tolist() == expected
    assert begins.tolist() == expected_begins
    assert sorted(cells) == list(range(n))


def ragged(n, seed, longest=9):
    rng = np.random.default_rng(seed)
    indptr = np.concatenate([[0], np.cumsum(rng.integers(1, longest + 1, size=n))])
    tokens = rng.integers(2, 100, size=indptr[-1]).astype(np.int32)
    return RaggedTokens(tokens, indptr)


def ring(n):
    """Each cell with the one before and the one behind it."""
    rows = np.arange(n)
    links = sp.csr_matrix((np.ones(n), (rows, (rows + 1) % n)), shape=(n, n))
    return sp.csr_matrix(links + links.T)


@pytest.fixture
def cells():
    return CellSequences([ragged(30, 0), ragged(20, 1)], neighbors=[ring(30), ring(20)])


@pytest.mark.parametrize("pool", [1, 3])
@pytest.mark.parametrize("num_neighbors", [0, 2])
@pytest.mark.parametrize(("max_tokens", "max_cells"), [(9, None), (40, None), (40, 3), (10_000, 7), (10_000, None)])
def test_every_cell_once_within_the_budget(cells, max_tokens, max_cells, num_neighbors, pool):
    sampler = TokenBudgetSampler(
        cells, max_tokens=max_tokens, max_cells=max_cells, num_neighbors=num_neighbors, pool_batches=pool
    )
    for epoch in range(3):
        sampler.set_epoch(epoch)
        batches = list(sampler)
        assert len(batches) == len(sampler)
        assert sorted(np.concatenate(batches)) == list(range(50))
        for batch in batches:
            assert cells.lengths[batch].sum() <= max_tokens
            assert max_cells is None or len(batch) <= max_cells


def test_the_order_is_a_function_of_seed_and_epoch(cells):
    def order(seed, epoch):
        sampler = TokenBudgetSampler(cells, max_tokens=40, random_state=seed)
        sampler.batches(epoch + 1)  # what was asked for before leaves no trace
        return [batch.tolist() for batch in sampler.batches(epoch)]

    assert order(0, 1) == order(0, 1)
    assert order(0, 1) != order(0, 2)
    assert order(0, 1) != order(1, 1)


def test_going_on_in_the_middle_of_an_epoch(cells):
    sampler = TokenBudgetSampler(cells, max_tokens=40)
    sampler.set_epoch(5)
    whole = list(sampler)
    sampler.set_epoch(5, first_batch=2)
    assert list(sampler) == whole[2:]
    assert list(sampler) == whole


def test_cells_of_a_batch_are_of_like_length_if_that_is_asked():
    cells = CellSequences([ragged(2000, 0, longest=90)])
    at_random = TokenBudgetSampler(cells, max_tokens=900).batches(0)
    assert np.mean([np.ptp(cells.lengths[batch]) for batch in at_random]) > 60
    batches = TokenBudgetSampler(cells, max_tokens=900, pool_batches=64).batches(0)
    spread = np.mean([np.ptp(cells.lengths[batch]) for batch in batches])
    assert spread < 5  # of 89; in a random order, about 80
    # ... and the batches are not sorted by it.
    means = [cells.lengths[batch].mean() for batch in batches]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.3


def test_neighbours_come_into_one_batch():
    n = 500
    cells = CellSequences([ragged(n, 0)], neighbors=[ring(n)])

    def num_partners(k):
        sampler = TokenBudgetSampler(cells, max_tokens=100, num_neighbors=k)
        return sum(len(cells[batch].partner) for batch in sampler.batches(0))

    assert num_partners(0) < 100
    assert num_partners(2) > 500  # of 1000


def test_a_loader_of_batches(cells):
    sampler = TokenBudgetSampler(cells, max_tokens=40)
    found = [batch.cell.tolist() for batch in DataLoader(cells, sampler=sampler, batch_size=None)]
    assert found == list(sampler)


def test_a_budget_below_the_longest_cell(cells):
    with pytest.raises(InputError, match=r"has 9 tokens, more than the 8 of a batch: raise max_tokens"):
        TokenBudgetSampler(cells, max_tokens=8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_tokens": 0}, "max_tokens must be a whole number of at least 1, not 0"),
        ({"max_tokens": 9, "max_cells": 0}, "TokenBudgetSampler needs max_cells of at least 1"),
        ({"max_tokens": 9, "pool_batches": 0}, "TokenBudgetSampler needs pool_batches of at least 1"),
        ({"max_tokens": 9, "num_neighbors": -1}, "TokenBudgetSampler needs num_neighbors of at least 0"),
        ({"max_tokens": 9, "random_state": 0.5}, "whole number as random_state"),
    ],
)
def test_senseless_arguments(cells, arguments, message):
    with pytest.raises(InputError, match=message):
        TokenBudgetSampler(cells, **arguments)


def test_no_cells():
    none = CellSequences([RaggedTokens(np.empty(0, dtype=np.int32), np.zeros(1, dtype=np.int64))])
    with pytest.raises(InputError, match="was given no cells"):
        TokenBudgetSampler(none, max_tokens=9, max_cells=3)


def test_neighbours_that_were_not_given():
    with pytest.raises(InputError, match="asked for neighbours"):
        TokenBudgetSampler(CellSequences([ragged(5, 0)]), max_tokens=9, num_neighbors=1)
