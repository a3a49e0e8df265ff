import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stgraph.errors import InputError
from stgraph.preprocess.ragged_tokens import RaggedTokens

sequences = st.lists(st.lists(st.integers(0, 9), max_size=4), min_size=1, max_size=6)


def ragged(lists, with_values=False):
    tokens = np.array([token for row in lists for token in row], dtype=np.int32)
    indptr = np.cumsum([0] + [len(row) for row in lists])
    return RaggedTokens(tokens, indptr, tokens.astype(np.float32) / 2 if with_values else None)


def as_lists(cells):
    return [cells[i].tolist() for i in range(len(cells))]


@given(sequences, st.data())
def test_cells_are_taken_in_any_order_and_as_often_as_asked(lists, data):
    rows = data.draw(st.lists(st.integers(-len(lists), len(lists) - 1), max_size=8))
    taken = ragged(lists, with_values=True).take(np.array(rows, dtype=np.int64))
    assert as_lists(taken) == [lists[row] for row in rows]
    assert taken.lengths.tolist() == [len(lists[row]) for row in rows]
    np.testing.assert_array_equal(taken.values, taken.tokens / 2)
    assert (taken.tokens.dtype, taken.indptr.dtype) == (np.int32, np.int64)


def test_a_mask_takes_cells_too():
    assert as_lists(ragged([[1], [2, 3], []]).take(np.array([False, True, True]))) == [[2, 3], []]


@given(st.lists(sequences, min_size=1, max_size=3))
def test_slices_are_joined_one_after_the_other(slices):
    joined = RaggedTokens.joined([ragged(lists) for lists in slices])
    assert as_lists(joined) == [row for lists in slices for row in lists]


def test_a_row_counts_from_the_end_and_not_beyond():
    cells = ragged([[1], [2, 3]])
    assert cells[-1].tolist() == [2, 3]
    for row in (2, -3):
        with pytest.raises(IndexError, match="of 2"):
            cells[row]


@pytest.mark.parametrize("indptr", [[1, 2], [0, 1], [0, 2, 1, 2], []])
def test_arrays_that_do_not_fit_are_refused(indptr):
    with pytest.raises(InputError, match="must rise from 0 to the number of tokens"):
        RaggedTokens(np.array([4, 5], dtype=np.int32), np.array(indptr, dtype=np.int64))


def test_values_come_one_for_each_token():
    with pytest.raises(InputError, match=r"has 1 tokens, but values of shape \(2,\)"):
        RaggedTokens(np.array([4], dtype=np.int32), np.array([0, 1]), np.zeros(2, dtype=np.float32))
    for parts in ([], [ragged([[1]]), ragged([[1]], with_values=True)]):
        with pytest.raises(InputError, match="at least one, and all or none have values"):
            RaggedTokens.joined(parts)
