import numpy as np
import pytest

from stgraph.errors import InputError
from stgraph.tasks.remembered import Remembered
from stgraph.tasks.unlabelled import fingerprint, unlabelled


class Counting:
    calls = None

    def __init__(self):
        self.calls = []

    def __deepcopy__(self, memo):
        copy = Counting()
        copy.calls = self.calls
        return copy

    def fit(self, slices):
        self.calls.append("fit")
        self.n = len(slices)
        return self

    def transform(self, adata):
        self.calls.append("transform")
        return np.full((adata.n_obs, 1), self.n, dtype=np.float32)


def test_nothing_is_computed_twice_and_nothing_mixed_up(slices):
    inner = Counting()
    encoder = Remembered(inner)
    one, two = slices
    assert encoder.fit([one]).transform(two)[0] == 1
    assert encoder.fit([one, two]).transform(two)[0] == 2
    assert encoder.fit([one.copy()]).transform(two.copy())[0] == 1
    assert inner.calls == ["fit", "transform"] * 2
    moved = two.copy()
    moved.obsm["spatial"] = moved.obsm["spatial"] + 1
    encoder.transform(moved)
    assert inner.calls.count("transform") == 3
    assert not hasattr(inner, "n")


def test_it_has_to_be_fitted(tissue):
    with pytest.raises(InputError, match="call fit"):
        Remembered(Counting()).transform(tissue)


def test_a_fingerprint_is_of_what_a_model_may_see(tissue):
    own = fingerprint(tissue)
    assert fingerprint(unlabelled(tissue)) == own
    for change in ("counts", "place", "gene", "cell", "slice"):
        other = tissue.copy()
        if change == "counts":
            other.X = other.X.copy()
            other.X.data[0] += 1
        elif change == "place":
            other.obsm["spatial"] = other.obsm["spatial"] * 2
        elif change == "gene":
            other.var_names = [f"{name}x" for name in other.var_names]
        elif change == "cell":
            other.obs_names = [f"{name}x" for name in other.obs_names]
        else:
            other.obs["slice_id"] = "another"
        assert fingerprint(other) != own, change


def test_an_unlabelled_slice_shares_its_counts_and_hides_the_rest(tissue):
    tissue.obsm["truth"] = np.ones((tissue.n_obs, 1))
    tissue.obsp["graph"] = tissue.X @ tissue.X.T
    tissue.layers["more"] = tissue.X.copy()
    blind = unlabelled(tissue)
    assert list(blind.obs) == ["slice_id"]
    assert list(blind.obsm) == ["spatial"]
    assert not len(blind.obsp)
    assert not len(blind.layers)
    assert (blind.obs_names == tissue.obs_names).all()
    assert np.shares_memory(blind.X.data, tissue.X.data)
    assert "domain" in tissue.obs
    blind.obs["mark"] = 1
    blind.uns["mark"] = 1
    assert "mark" not in tissue.obs
    assert "mark" not in tissue.uns
