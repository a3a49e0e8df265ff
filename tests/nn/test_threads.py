import threading

import numpy as np
import pytest
import torch

from stgraph.nn.threads import in_threads


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("rows", [0, 1, 7, 1000])
def test_every_row_is_done_once(threads, rows, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    before, done, lock = torch.get_num_threads(), [], threading.Lock()

    def kernel(start, stop, word):
        with lock:
            done.extend(range(start, stop))
        assert word == "passed on"

    degree = np.random.default_rng(0).integers(0, 50, rows)
    degree[rows // 2 + 1 :] = 0  # the last rows have nothing, and are rows all the same
    try:
        torch.set_num_threads(threads)
        in_threads(kernel, np.concatenate([[0], degree.cumsum()]), 10**6, "passed on")
    finally:
        torch.set_num_threads(before)
    assert sorted(done) == list(range(rows))


def test_an_error_of_a_kernel_is_raised(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    before = torch.get_num_threads()

    def kernel(start, stop):
        raise RuntimeError("in the kernel")

    try:
        torch.set_num_threads(2)
        with pytest.raises(RuntimeError, match="in the kernel"):
            in_threads(kernel, np.arange(100), 10**6)
    finally:
        torch.set_num_threads(before)
