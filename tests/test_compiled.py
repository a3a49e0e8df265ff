from types import FunctionType

import numpy as np
import pytest
from numba import njit

from stgraph._compiled import compiled
from stgraph.graph.builders import _is_mutual


def twice(values):
    return 2 * values


def test_runs_where_no_cache_can_be_kept():
    nowhere = FunctionType(twice.__code__.replace(co_filename="no/such/file.py"), {})
    with pytest.raises(RuntimeError, match="no locator available"):
        njit(cache=True)(nowhere)
    np.testing.assert_array_equal(compiled(nowhere)(np.arange(3)), [0, 2, 4])


def test_the_cache_of_a_module_is_kept():
    assert _is_mutual.stats.cache_path is not None
