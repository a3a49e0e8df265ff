import warnings

import numpy as np
import pytest
import scipy.sparse as sp

import stgraph
from stgraph.errors import InputError, StgraphWarning
from stgraph.preprocess.encoder import LogPCA


@pytest.fixture
def encoder(slices):
    return LogPCA(n_components=8).fit(slices)


def spread_out(x):
    return np.abs(x).max()


def test_whole_computation_against_dense_numpy(tissue):
    """One slice: depth to the median, log1p, centring, projection onto orthonormal axes of largest variance."""
    encoder = LogPCA(n_components=5, n_top_genes=40).fit([tissue])
    x = encoder.transform(tissue).astype(np.float64)
    counts = tissue.X.toarray().astype(np.float64)
    depth = counts.sum(axis=1)
    log = np.log1p(counts / depth[:, None] * np.median(depth[depth > 0]))
    top = np.argsort(-log.var(axis=0), kind="stable")[:40]
    assert sorted(encoder.state()["top"]) == sorted(top)
    centred = log[:, np.sort(top)]
    centred -= centred.mean(axis=0)
    u, singular, _ = np.linalg.svd(centred, full_matrices=False)
    scores = u[:, :5] * singular[:5]
    for i in range(5):  # each up to its sign and its scale
        assert abs(np.corrcoef(x[:, i], scores[:, i])[0, 1]) == pytest.approx(1, abs=1e-6)


def test_unwhitened_features_are_the_principal_components(tissue):
    encoder = LogPCA(n_components=5, **_unscaled()).fit([tissue])
    x = encoder.transform(tissue).astype(np.float64)
    counts = tissue.X.toarray().astype(np.float64)
    depth = counts.sum(axis=1)
    log = np.log1p(counts / depth[:, None] * np.median(depth[depth > 0]))
    log -= log.mean(axis=0)
    singular = np.linalg.svd(log, compute_uv=False)[:5]
    np.testing.assert_allclose(np.linalg.norm(x, axis=0), singular, rtol=1e-5)


def test_whitened_features_have_unit_variance(slices):
    encoder = LogPCA(n_components=5, **_whitened()).fit(slices)
    x = np.concatenate([encoder.transform(adata) for adata in slices])
    np.testing.assert_allclose(x.std(axis=0), 1, rtol=1e-4)


def _whitened():
    return {"whiten": True} if hasattr(LogPCA(), "whiten") else {"whiten_power": 1.0}


def _unscaled():
    return {"whiten": False} if hasattr(LogPCA(), "whiten") else {"whiten_power": 0.0}


def test_sparse_solver_and_dense_solver_agree(slices):
    few = LogPCA(n_components=4).fit(slices)  # 80 genes: the iterative solver
    many = LogPCA(n_components=79).fit(slices)  # the dense one
    for adata in slices:
        np.testing.assert_allclose(few.transform(adata), many.transform(adata)[:, :4], atol=1e-3)


def test_features_are_finite_and_centred_on_each_slice(encoder, slices):
    for adata in slices:
        x = encoder.transform(adata)
        assert x.dtype == np.float32
        assert x.shape == (adata.n_obs, 8)
        assert np.isfinite(x).all()
        np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-5 * spread_out(x))


def test_order_of_cells_does_not_matter(slices):
    order = np.random.default_rng(0).permutation(slices[0].n_obs)
    plain = LogPCA(n_components=6).fit(slices).transform(slices[0])
    shuffled = LogPCA(n_components=6).fit([slices[0][order].copy(), slices[1]]).transform(slices[0][order].copy())
    np.testing.assert_allclose(shuffled, plain[order], atol=1e-4 * spread_out(plain))


def test_order_of_genes_does_not_matter(encoder, tissue):
    order = np.random.default_rng(0).permutation(tissue.n_vars)
    plain = encoder.transform(tissue)
    np.testing.assert_allclose(encoder.transform(tissue[:, order].copy()), plain, atol=1e-5 * spread_out(plain))


def test_depth_of_a_cell_does_not_matter(encoder, tissue):
    plain = encoder.transform(tissue)
    deeper = tissue.copy()
    deeper.X = sp.csr_matrix(deeper.X.multiply(np.where(np.arange(tissue.n_obs) % 3 == 0, 2, 1)[:, None])).astype("i4")
    np.testing.assert_allclose(encoder.transform(deeper), plain, atol=0.02 * spread_out(plain))


def test_the_same_run_gives_the_same_numbers(encoder, slices):
    again = LogPCA(n_components=8).fit([adata.copy() for adata in slices])
    for adata in slices:
        np.testing.assert_array_equal(again.transform(adata), encoder.transform(adata))


def test_input_is_not_changed(tissue):
    before = tissue.copy()
    LogPCA().fit([tissue]).transform(tissue)
    assert (before.X != tissue.X).nnz == 0
    assert tissue.X.dtype == before.X.dtype
    assert set(tissue.obsm) == set(before.obsm)


def test_state_makes_the_round_trip(encoder, tissue):
    restored = LogPCA(n_components=8).load_state(encoder.state())
    assert restored.genes == encoder.genes
    np.testing.assert_array_equal(restored.transform(tissue), encoder.transform(tissue))
    assert all(isinstance(array, np.ndarray) for array in encoder.state().values())


def test_state_that_does_not_fit(encoder):
    state = encoder.state()
    with pytest.raises(InputError, match="must hold"):
        LogPCA().load_state({name: array for name, array in state.items() if name != "top"})
    with pytest.raises(InputError, match="do not fit together"):
        LogPCA().load_state(state | {"components": state["components"][:, 1:]})


def test_gene_names_may_be_of_any_script(tissue):
    tissue.var_names = [f"βγ-{i} ü" for i in range(tissue.n_vars)]
    encoder = LogPCA(n_components=4).fit([tissue])
    assert LogPCA().load_state(encoder.state()).genes == list(tissue.var_names)


def test_missing_genes_count_as_average(slices):
    """A gene the slice lacks does what one does whose log count is the same in every cell: nothing."""
    encoder = LogPCA(n_components=6).fit(slices)
    lacking = slices[0][:, 10:].copy()
    with pytest.warns(StgraphWarning, match=r"lacks 10 of the (79|80) genes the model reads; they count as average"):
        x = encoder.transform(lacking)
    assert np.isfinite(x).all()
    np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-5 * spread_out(x))
    state = encoder.state()
    state["components"] = state["components"].copy()
    state["components"][:, np.isin(state["top"], np.arange(10))] = 0
    # Their share of the depth is missing too, cell by cell, so the rest agrees only nearly.
    whole = LogPCA().load_state(state).transform(slices[0])
    assert min(np.corrcoef(x[:, i], whole[:, i])[0, 1] for i in range(6)) > 0.97


def test_genes_the_model_does_not_know_are_passed_over(slices):
    encoder = LogPCA(n_components=6).fit([adata[:, :60].copy() for adata in slices])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        more = encoder.transform(slices[0])
    np.testing.assert_array_equal(more, encoder.transform(slices[0][:, :60].copy()))


def test_disjoint_panels(slices, encoder):
    slices[1].var_names = [f"other{i}" for i in range(slices[1].n_vars)]
    with pytest.raises(InputError, match="share only 0 genes"):
        LogPCA().fit(slices)
    with pytest.raises(InputError, match=r"synthetic_1 has only 0 of the model's 80 genes.*'other0'"):
        encoder.transform(slices[1])


def test_a_panel_of_33_genes():
    tissue = stgraph.synthetic_tissue(n_cells=200, n_genes=60)[0][:, :33].copy()
    x = LogPCA().fit([tissue]).transform(tissue)
    assert x.shape == (200, 20)
    assert np.isfinite(x).all()
    assert LogPCA(n_components=50).fit([tissue]).transform(tissue).shape[1] <= 33


def test_more_components_than_cells_or_genes(tissue):
    few = tissue[:12].copy()
    x = LogPCA(n_components=30).fit([few]).transform(few)
    assert 1 <= x.shape[1] <= 11
    assert np.isfinite(x).all()


def test_constant_and_empty_genes_add_nothing(tissue):
    counts = tissue.X.tolil()
    counts[:, 3] = 0
    tissue.X = counts.tocsr()
    encoder = LogPCA(n_components=6).fit([tissue])
    assert 3 not in encoder.state()["top"]
    assert np.isfinite(encoder.transform(tissue)).all()


@pytest.mark.parametrize("seed", range(5))
def test_cells_that_are_all_alike(tissue, seed):
    row = np.random.default_rng(seed).integers(1, 50, tissue.n_vars)
    tissue.X = sp.csr_matrix(np.tile(row, (tissue.n_obs, 1)).astype(np.int32))
    with pytest.raises(InputError, match="No gene varies"):
        LogPCA().fit([tissue])


def test_no_counts_in_the_shared_genes(slices):
    for adata in slices:
        adata.X = sp.csr_matrix(adata.shape, dtype=np.int32)
    with pytest.raises(InputError, match="no counts at all"):
        LogPCA().fit(slices)


def test_cells_without_counts_and_nearly_so(tissue):
    counts = tissue.X.tolil()
    counts[:5] = 0
    counts[5:10] = 0
    counts[5:10, 7] = 1
    tissue.X = counts.tocsr()
    x = LogPCA(n_components=6).fit([tissue]).transform(tissue)
    assert np.isfinite(x).all()
    np.testing.assert_array_equal(x[0], x[4])
    np.testing.assert_array_equal(x[5], x[9])


def test_one_gene_and_two_cells(tissue):
    pair = tissue[:2].copy()
    pair.X = sp.csr_matrix(np.eye(2, tissue.n_vars, dtype=np.int32))
    assert LogPCA().fit([pair]).transform(pair).shape == (2, 1)


def test_senseless_use(tissue):
    for bad in ({"n_top_genes": 0}, {"n_components": 0}, {"min_shared_genes": 0}):
        with pytest.raises(InputError, match="positive"):
            LogPCA(**bad)
    with pytest.raises(InputError, match="not fitted"):
        LogPCA().transform(tissue)


def test_a_cell_with_one_count_is_scaled_up_fifty_times_at_most(tissue):
    counts = tissue.X.toarray()
    gene = int(counts.sum(axis=0).argmax())
    counts[:2] = 0
    counts[0, gene] = 1  # the other has none at all
    tissue.X = sp.csr_matrix(counts)
    encoder = LogPCA(n_components=5).fit([tissue])
    x, state = encoder.transform(tissue), encoder.state()
    loading = state["components"][:, np.flatnonzero(state["top"] == gene)[0]]
    np.testing.assert_allclose(x[0] - x[1], np.log1p(50.0) * loading / state["scale"], rtol=1e-4, atol=1e-5)
