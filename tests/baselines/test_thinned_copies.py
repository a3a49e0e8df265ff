import numpy as np
import pytest

from stgraph._config import instantiate, to_config
from stgraph.baselines.thinned_copies import WithThinnedCopies, thinned_copies
from stgraph.errors import InputError
from stgraph.preprocess.encoder import LogPCA


class Seen:
    """Notes what it is fitted on."""

    def fit(self, slices):
        self.slices = list(slices)
        return self

    def transform(self, adata):
        return np.asarray(adata.X.sum(axis=1), dtype=np.float32)


def names(slices):
    return [str(adata.obs["slice_id"].iloc[0]) for adata in slices]


def test_an_encoder_sees_slices_and_copies(slices):
    seen = Seen()
    encoder = WithThinnedCopies(seen).fit(slices)
    assert seen.slices[0] is slices[0]
    assert names(seen.slices) == [
        "synthetic_0",
        "synthetic_1",
        "synthetic_0_thinned_0.5",
        "synthetic_0_thinned_0.25",
        "synthetic_1_thinned_0.5",
        "synthetic_1_thinned_0.25",
    ]
    depth = [adata.X.sum() for adata in seen.slices]
    np.testing.assert_allclose(np.array(depth[2:]) / np.repeat(depth[:2], 2), [0.5, 0.25] * 2, rtol=0.02)
    np.testing.assert_array_equal(encoder.transform(slices[0]), slices[0].X.sum(axis=1))
    assert names(slices) == ["synthetic_0", "synthetic_1"]


def test_copies_of_equal_share_have_noise_of_their_own(tissue):
    other = tissue.copy()
    other.obs["slice_id"] = other.obs["slice_id"].cat.rename_categories(["other"])
    first, second = thinned_copies([tissue, other], [0.5])
    assert (first.X != second.X).nnz > 0
    assert (thinned_copies([tissue], [0.5])[0].X != first.X).nnz == 0
    assert (thinned_copies([tissue], [0.5], random_state=1)[0].X != first.X).nnz > 0


def test_a_shallow_slice_is_better_described_by_what_saw_one(tissue):
    """Components that were learnt with shallow cells tell the noise of such cells apart from tissue."""
    encoder = WithThinnedCopies(LogPCA(n_components=5)).fit([tissue])
    assert encoder.encoder.state()["target_depth"] < LogPCA().fit([tissue]).state()["target_depth"]


def test_a_name_that_is_taken(tissue):
    other = tissue.copy()
    other.obs["slice_id"] = other.obs["slice_id"].cat.rename_categories(["synthetic_0_thinned_0.5"])
    with pytest.raises(InputError, match=r"already called 'synthetic_0_thinned_0\.5'"):
        thinned_copies([tissue, other], [0.5])


@pytest.mark.parametrize("shares", [(), (0.5, 0.5), (0.0,), (2.0,)])
def test_senseless_shares(shares):
    with pytest.raises(InputError, match="WithThinnedCopies needs"):
        WithThinnedCopies(Seen(), shares)


def test_config():
    encoder = WithThinnedCopies(LogPCA(n_components=7), (0.3,), 2)
    config = to_config(encoder)
    assert to_config(instantiate(config)) == config
    assert config["shares"] == [0.3]
