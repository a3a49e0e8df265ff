import numpy as np
import pytest
import scanpy as sc
import scipy.sparse as sp

from stgraph.errors import InputError, StgraphWarning
from stgraph.preprocess.gene_values import LogValues
from stgraph.preprocess.pearson import PearsonPCA, PearsonResiduals


@pytest.fixture
def slices(slices):
    """Without the gene that no cell has."""
    seen = np.ravel(slices[0].X.sum(axis=0)) > 0
    return [adata[:, seen].copy() for adata in slices]


def residuals(fitted, adata):
    return np.concatenate(list(fitted.blocks(adata, np.arange(len(fitted.genes)))))


def test_residuals_are_scanpys(tissue):
    expected = sc.experimental.pp.normalize_pearson_residuals(tissue, inplace=False)["X"]
    np.testing.assert_allclose(residuals(PearsonResiduals().fit([tissue]), tissue), expected, atol=1e-4)


def test_residuals_by_hand_with_shares_of_other_slices(slices):
    fitted = PearsonResiduals(theta=10.0).fit(slices[:1])
    share = slices[0].X.toarray().sum(axis=0) / slices[0].X.sum()
    counts = slices[1].X.toarray()
    expected = counts.sum(axis=1, keepdims=True) * share
    clip = np.sqrt(slices[0].n_obs)
    by_hand = np.clip((counts - expected) / np.sqrt(expected + expected**2 / 10), -clip, clip)
    np.testing.assert_allclose(residuals(fitted, slices[1]), by_hand, rtol=1e-4, atol=1e-4)


def test_components_by_dense_numpy(slices):
    x = np.concatenate([residuals(PearsonResiduals().fit(slices), adata) for adata in slices]).astype(np.float64)
    within = np.concatenate(
        [part - part.mean(axis=0) for part in np.split(x, [slices[0].n_obs])]
    ).var(axis=0)  # fmt: skip
    encoder = PearsonPCA(n_top_genes=40, n_components=5).fit(slices)
    assert set(encoder.state()["top"]) == set(np.argsort(-within)[:40])
    kept = x[:, encoder.state()["top"]]
    u, singular, _ = np.linalg.svd(kept - kept.mean(axis=0), full_matrices=False)
    found = np.concatenate([encoder.transform(adata) for adata in slices])
    np.testing.assert_allclose(np.abs(found), np.abs(u[:, :5] * singular[:5]), atol=1e-3 * singular[0])


def test_blocks_of_cells_are_put_together(slices, monkeypatch):
    whole = PearsonPCA(n_components=5).fit(slices).transform(slices[0])
    monkeypatch.setattr("stgraph.preprocess.gene_values._BLOCK", 79 * 33)
    np.testing.assert_allclose(PearsonPCA(n_components=5).fit(slices).transform(slices[0]), whole, atol=1e-3)


def test_a_cell_depends_on_no_other_cell_of_its_slice(slices):
    encoder = PearsonPCA(n_components=5).fit(slices[:1])
    part = np.arange(slices[1].n_obs) % 3 == 0
    np.testing.assert_allclose(encoder.transform(slices[1][part].copy()), encoder.transform(slices[1])[part], atol=1e-5)


def test_depth_of_a_smaller_panel_is_counted_over_what_it_has(slices):
    fitted = PearsonResiduals().fit(slices)
    lacking = slices[0][:, 20:].copy()
    alone = PearsonResiduals().fit([adata[:, 20:].copy() for adata in slices])
    x = residuals(fitted, lacking)
    assert np.isnan(x[:, :20]).all()
    np.testing.assert_allclose(x[:, 20:], residuals(alone, lacking), atol=1e-4)


def test_missing_genes_count_as_average(slices):
    encoder = PearsonPCA(n_components=5).fit(slices)
    with pytest.warns(StgraphWarning, match="synthetic_0 lacks 10 of the 79 genes the encoder reads"):
        x = encoder.transform(slices[0][:, 10:].copy())
    assert np.isfinite(x).all()


def test_a_gene_without_counts_in_training_is_as_expected(slices):
    counts = slices[0].X.tolil()
    counts[:, 5] = 0
    slices[0].X = counts.tocsr()
    x = residuals(PearsonResiduals().fit(slices[:1]), slices[1])
    assert (x[:, 5] == 0).all()
    assert 5 not in PearsonPCA().fit(slices[:1]).state()["top"]


@pytest.mark.parametrize("make", [PearsonResiduals, LogValues])
def test_cells_without_counts(tissue, make):
    counts = tissue.X.tolil()
    counts[:4] = 0
    tissue.X = counts.tocsr()
    x = residuals(make().fit([tissue]), tissue)
    assert np.isfinite(x).all()
    assert (x[:4] == 0).all()


def test_log_values_by_hand(slices):
    fitted = LogValues().fit(slices)
    depth = np.concatenate([adata.X.toarray().sum(axis=1) for adata in slices])
    counts = slices[1].X.toarray()
    own = np.maximum(counts.sum(axis=1, keepdims=True), 0.02 * np.median(depth[depth > 0]))
    expected = np.log1p(counts * np.median(depth[depth > 0]) / own)
    np.testing.assert_allclose(residuals(fitted, slices[1]), expected, atol=1e-4)


def test_state_makes_the_round_trip(slices):
    encoder = PearsonPCA(n_components=5).fit(slices)
    restored = PearsonPCA(n_components=5).load_state(encoder.state())
    assert restored.genes == encoder.genes
    np.testing.assert_array_equal(restored.transform(slices[1]), encoder.transform(slices[1]))
    with pytest.raises(InputError, match="must hold"):
        PearsonPCA().load_state({})
    with pytest.raises(InputError, match="do not fit together"):
        PearsonPCA().load_state(encoder.state() | {"mean": np.zeros(3)})


def test_nothing_to_learn_from(tissue):
    tissue.X = sp.csr_matrix(np.full(tissue.shape, 3, dtype=np.int32))
    with pytest.raises(InputError, match="No gene varies"):
        PearsonPCA().fit([tissue])
    tissue.X = sp.csr_matrix(tissue.shape, dtype=np.int32)
    with pytest.raises(InputError, match="no counts at all"):
        PearsonPCA().fit([tissue])


@pytest.mark.parametrize("bad", [{"n_top_genes": 0}, {"n_components": 0}, {"theta": 0.0}, {"min_shared_genes": 0}])
def test_senseless_settings(bad):
    with pytest.raises(InputError, match="positive"):
        PearsonPCA(**bad)


def test_other_senseless_settings():
    for make in (lambda: PearsonResiduals(theta=-1.0), lambda: LogValues(min_shared_genes=0)):
        with pytest.raises(InputError, match="positive"):
            make()
