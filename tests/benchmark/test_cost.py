import sys

import numpy as np
import pytest

from stgraph.benchmark.cost import measured


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the highest memory since a moment")
def test_memory_is_the_highest_that_was_held():
    def work():
        large = np.ones(8_000_000)
        return float(large.sum())

    result, took = measured(work)
    assert result == 8_000_000
    assert took.extra_bytes > 60_000_000
    assert took.seconds > 0
