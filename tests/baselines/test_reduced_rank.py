import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.linear_model import Ridge

from stgraph.baselines import GenePCA, ReducedRankNeighbors
from stgraph.errors import InputError
from stgraph.preprocess.encoder import LogPCA


def around(x, pos, sizes):
    order = np.argsort(np.linalg.norm(pos[:, None] - pos, axis=2), axis=1)
    return np.concatenate([x[order[:, 1 : k + 1]].mean(axis=1) for k in sizes], axis=1)


def test_principal_components_of_what_ridge_regression_predicts(slices):
    cells = LogPCA(n_components=8).fit(slices)
    x = [cells.transform(adata).astype(np.float64) for adata in slices]
    means = [around(own, adata.obsm["spatial"], (3, 9)) for own, adata in zip(x, slices, strict=True)]
    ridge = Ridge(alpha=2.0).fit(np.concatenate(means), np.concatenate(x))
    fitted = ridge.predict(np.concatenate(means))
    u, singular, _ = np.linalg.svd(fitted - fitted.mean(axis=0), full_matrices=False)
    encoder = ReducedRankNeighbors(LogPCA(n_components=8), (3, 9), rank=3, alpha=2.0).fit(slices)
    found = np.concatenate([encoder.transform(adata) for adata in slices])
    assert found.shape[1] == 3
    np.testing.assert_allclose(np.abs(found), np.abs(u[:, :3] * singular[:3]), atol=1e-3 * singular[0])


def test_a_cell_does_not_see_itself(tissue):
    encoder = ReducedRankNeighbors(GenePCA()).fit([tissue])  # which does not look at the rest of the slice
    counts = tissue.X.toarray()
    counts[7] = counts[7, ::-1]
    changed = tissue.copy()
    changed.X = sp.csr_matrix(counts)
    moved = np.abs(encoder.transform(changed) - encoder.transform(tissue)).max(axis=1)
    assert moved[7] < 1e-6
    assert moved.max() > 1e-2


def test_rank_is_at_most_that_of_the_encoder(tissue):
    assert ReducedRankNeighbors(LogPCA(n_components=4)).fit([tissue]).transform(tissue).shape[1] == 4


@pytest.mark.parametrize("bad", [{"rank": 0}, {"alpha": 0.0}, {"n_neighbors": (0,)}, {"n_neighbors": ()}])
def test_senseless_settings(bad):
    with pytest.raises(InputError, match=next(iter(bad))):
        ReducedRankNeighbors(**bad)
