import numpy as np
import pytest

from stgraph.errors import InputError
from stgraph.metrics.arguments import checked_codes, checked_matrix, checked_pair


def test_codes_become_int64_and_matrices_keep_their_type():
    assert checked_codes("it", "labels", np.array([1, 2], dtype=np.uint8)).dtype == np.int64
    assert checked_matrix("it", "x", np.ones((2, 2), dtype=np.float32)).dtype == np.float32
    truth, predicted = checked_pair("it", [[True]], [[0.5]])
    assert (truth.dtype, predicted.dtype) == (np.dtype(bool), np.dtype(np.float64))


def test_an_error_says_who_what_and_where():
    with pytest.raises(InputError, match=r"^it has 2 labels for 3 cells: there must be one for each\.$"):
        checked_codes("it", "labels", [0, 1], n_cells=3)
    bad = np.ones((5, 2))
    bad[3:] = np.nan
    with pytest.raises(InputError, match=r"^it: 2 of 5 rows of x hold NaN or infinity \(the first is row 3\): leave"):
        checked_matrix("it", "x", bad)
    with pytest.raises(InputError, match=r"^it needs x of shape \(any, 2\), cells in rows, not \(5, 3\).$"):
        checked_matrix("it", "x", np.ones((5, 3)), shape=(None, 2))
