from copy import deepcopy

import numpy as np
import pytest

import stgraph
from stgraph.baselines import Joined
from stgraph.benchmark import kept
from stgraph.benchmark.kept import Kept
from stgraph.preprocess.encoder import LogPCA


class Counting(LogPCA):
    fitted = 0

    def fit(self, slices):
        type(self).fitted += 1
        return super().fit(slices)


@pytest.fixture
def slices():
    Counting.fitted = 0
    return stgraph.synthetic_tissue(n_cells=80, n_genes=60, n_slices=2)


def test_describes_as_the_encoder_does_and_fits_once(slices, tmp_path):
    encoder = Kept(lambda: Counting(n_components=4), "a", tmp_path)
    for _ in range(2):
        x = encoder.fit(slices).transform(slices[0])
    np.testing.assert_array_equal(x, LogPCA(n_components=4).fit(slices).transform(slices[0]))
    assert Counting.fitted == 1
    assert not list(tmp_path.iterdir())  # too fast to be worth a file


def test_other_slices_are_another_fit_even_in_copies(slices, tmp_path):
    encoder = Kept(lambda: Counting(n_components=4), "a", tmp_path)
    one, both = deepcopy(encoder).fit(slices[:1]), deepcopy(encoder).fit(slices)
    mine = one.transform(slices[1])  # after the other copy was fitted
    np.testing.assert_array_equal(mine, LogPCA(n_components=4).fit(slices[:1]).transform(slices[1]))
    assert not np.allclose(mine, both.transform(slices[1]))
    assert Counting.fitted == 2
    assert encoder.used.keys() == one.used.keys()
    assert len(encoder.used) == 2


def test_slow_descriptions_outlive_the_process(slices, tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "SLOW", -1.0)
    first = Kept(lambda: Counting(n_components=4), "a", tmp_path).fit(slices).transform(slices[0])
    again = Kept(lambda: Counting(n_components=4), "a", tmp_path)
    np.testing.assert_array_equal(again.fit(slices).transform(slices[0]), first)
    assert Counting.fitted == 1
    [cost] = again.used.values()
    assert (cost.n_fitted, cost.n_described) == (160, 80)
    assert cost.fit_seconds > 0
    Kept(lambda: Counting(n_components=4), "b", tmp_path).fit(slices).transform(slices[0])
    assert Counting.fitted == 2  # of another name


def test_memory_is_bounded(slices, tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "HELD_BYTES", 1)
    encoder = Kept(lambda: Counting(n_components=4), "a", tmp_path).fit(slices)
    for adata in slices:
        encoder.transform(adata)
    assert len(encoder._held) == 1


def test_views_outlive_the_process_too(slices, tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "SLOW", -1.0)

    def make():
        return Joined({"own": LogPCA(n_components=3), "more": LogPCA(n_components=5)}, unguided="more")

    first = Kept(make, "joined", tmp_path).fit(slices)
    assert first.views() == {"whole": slice(None)}  # nothing was described yet
    first.transform(slices[0])
    again = Kept(make, "joined", tmp_path).fit(slices)
    again.transform(slices[0])
    assert again.views() == first.views() == {"whole": slice(0, 8), "own": slice(0, 3), "more": slice(3, 8)}
    assert again.unguided == "more"
