"""The embedded tissue: deterministic, realistic, neither trivial nor hopeless."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse
from scipy.spatial import cKDTree
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture

from stgraph import _keys
from stgraph.errors import InputError
from stgraph.io.synthetic import synthetic_tissue


@pytest.fixture(scope="module")
def tissue() -> list[AnnData]:
    return synthetic_tissue(n_slices=2)


@pytest.fixture(scope="module")
def section(tissue: list[AnnData]) -> AnnData:
    return tissue[0]


def _bytes(section: AnnData) -> bytes:
    arrays = [section.X.data, section.X.indices, section.X.indptr, section.obsm[_keys.SPATIAL]]
    arrays += [section.obs[key].cat.codes.to_numpy() for key in ("domain", "cell_type", _keys.SLICE)]
    names = [*section.obs_names, *section.var_names]
    return b"".join(array.tobytes() for array in arrays) + "|".join(names).encode()


def _shares(section: AnnData, key: str) -> pd.Series:
    return section.obs[key].value_counts(normalize=True, sort=False)


def test_same_seed_same_bytes():
    first, again = (synthetic_tissue(n_cells=300, n_genes=60, random_state=7)[0] for _ in range(2))
    assert _bytes(first) == _bytes(again)


def test_another_seed_another_tissue():
    first, other = (synthetic_tissue(n_cells=300, n_genes=60, random_state=seed)[0] for seed in (7, 8))
    assert not np.array_equal(first.obsm[_keys.SPATIAL], other.obsm[_keys.SPATIAL])
    assert (first.X != other.X).nnz > 0


def test_a_section_does_not_depend_on_how_many_follow(section):
    assert _bytes(synthetic_tissue()[0]) == _bytes(section)


@pytest.mark.parametrize(("n_cells", "n_genes"), [(50, 50), (51, 73), (400, 150), (5000, 60)])
def test_any_size(n_cells, n_genes):
    (section,) = synthetic_tissue(n_cells=n_cells, n_genes=n_genes)
    assert section.shape == (n_cells, n_genes)
    assert section.var_names.is_unique


def test_slots(section):
    assert section.shape == (2500, 300)
    assert section.obsm[_keys.SPATIAL].shape == (2500, 2)
    assert section.obsm[_keys.SPATIAL].dtype == np.float64
    assert section.obsm[_keys.SPATIAL].min() > 0
    assert list(section.obs.columns) == ["domain", "cell_type", _keys.SLICE]
    assert all(isinstance(dtype, pd.CategoricalDtype) for dtype in section.obs.dtypes)
    assert all(isinstance(name, str) for key in section.obs for name in section.obs[key].cat.categories)
    assert section.uns[_keys.STGRAPH] == {
        _keys.UM_PER_UNIT: 1.0,
        _keys.UNIT: "um",
        _keys.UNIT_SOURCE: "file",
    }
    assert section.uns["organism"] == "synthetic"


def test_counts_are_canonical_csr(section):
    assert isinstance(section.X, sparse.csr_matrix)
    assert section.X.dtype == np.int32
    assert section.X.has_canonical_format
    assert section.X.data.min() > 0


def test_sparsity_and_depth_are_those_of_an_imaging_panel(section):
    total = np.asarray(section.X.sum(axis=1)).ravel()
    per_gene = np.asarray(section.X.mean(axis=0)).ravel()
    assert 0.70 < 1 - section.X.nnz / np.prod(section.shape) < 0.85
    assert 180 < np.median(total) < 330
    assert 0.005 < (total < 50).mean() < 0.08
    assert np.quantile(per_gene, 0.99) > 100 * np.quantile(per_gene, 0.01)


def test_counts_are_overdispersed(section):
    """Negative binomial: within one type, the busy genes vary more than Poisson ones."""
    cells = section[section.obs["cell_type"] == "Exc-L5"].X.toarray()
    busy = cells[:, cells.mean(axis=0) > 2]
    assert np.median(busy.var(axis=0) / busy.mean(axis=0)) > 1.5


def test_cells_are_solid_and_close(section):
    nearest = cKDTree(section.obsm[_keys.SPATIAL]).query(section.obsm[_keys.SPATIAL], k=2)[0][:, 1]
    assert nearest.min() > 6.4
    assert 8 < nearest.mean() < 12


def test_every_domain_has_cells(section):
    assert list(section.obs["domain"].cat.categories) == ["L1", "L2/3", "L4", "L5", "L6", "WM", "nodule"]
    assert _shares(section, "domain").min() > 0.01


def test_types_occur_in_several_domains(section):
    cells = pd.crosstab(section.obs["cell_type"], section.obs["domain"], normalize="columns")
    assert 10 <= len(cells) <= 12
    assert ((cells > 0.01).sum(axis=1) >= 3).mean() > 0.8
    assert cells.max().max() < 0.75


def test_nodule_cuts_across_layers(section):
    """A round nodule inside the bands has several of them around it."""
    positions, domain = section.obsm[_keys.SPATIAL], section.obs["domain"].to_numpy()
    inside = domain == "nodule"
    rim = cKDTree(positions[inside]).query(positions[~inside], distance_upper_bound=25.0)[0]
    assert len(set(domain[~inside][np.isfinite(rim)])) >= 2


def test_markers_are_enriched_in_their_type(section):
    total = np.asarray(section.X.sum(axis=1)).ravel()
    cell_type = section.obs["cell_type"]
    for name in cell_type.cat.categories:
        markers = section.var_names.str.match(f"{name.replace('/', '')}-[0-9]+$")
        assert markers.sum() == 10
        share = np.asarray(section[:, markers].X.sum(axis=1)).ravel() / total
        own = share[cell_type == name].mean()
        assert own > 2 * share[cell_type != name].mean()


def test_some_genes_follow_depth_within_a_type(section):
    astro = section[section.obs["cell_type"] == "Astro"]
    counts = astro.X.toarray()
    rate = counts / counts.sum(axis=1, keepdims=True)
    busy = rate[:, counts.mean(axis=0) > 0.5]
    height = astro.obsm[_keys.SPATIAL][:, 1]
    slope = np.array([np.corrcoef(height, gene)[0, 1] for gene in busy.T])
    assert np.abs(slope).max() > 5 / np.sqrt(len(height))


def test_domains_are_neither_trivial_nor_hopeless(section):
    """One cell says little about its domain; its neighbourhood says most, not all."""
    counts = section.X.toarray()
    total = counts.sum(axis=1, keepdims=True)
    log = np.log1p(counts / np.maximum(total, 1) * np.median(total))
    pca = PCA(20, random_state=0).fit_transform(log)
    positions = section.obsm[_keys.SPATIAL]
    around = pca[cKDTree(positions).query(positions, k=31)[1]].mean(axis=1)
    alone, smoothed = (_agreement(section, features) for features in (pca, around))
    assert 0.15 < alone < 0.45
    assert 0.5 < smoothed < 0.85


def _agreement(section: AnnData, features: np.ndarray) -> float:
    mixture = GaussianMixture(7, covariance_type="tied", n_init=2, random_state=0)
    return adjusted_rand_score(section.obs["domain"], mixture.fit_predict(features))


def test_sections_are_serial(tissue):
    first, second = tissue
    assert list(first.var_names) == list(second.var_names)
    assert not set(first.obs_names) & set(second.obs_names)
    assert [list(s.obs[_keys.SLICE].cat.categories) for s in tissue] == [["synthetic_0"], ["synthetic_1"]]
    assert not np.array_equal(first.obsm[_keys.SPATIAL], second.obsm[_keys.SPATIAL])
    assert np.abs(_shares(first, "domain") - _shares(second, "domain")).max() < 0.03


def test_sections_have_a_mild_batch_effect(tissue):
    share = [np.asarray(s.X.sum(axis=0)).ravel() / s.X.sum() for s in tissue]
    busy = share[0] > np.median(share[0])
    change = np.log(share[1][busy] / share[0][busy])
    assert 0.1 < change.std() < 0.4


@pytest.mark.parametrize(
    "wrong",
    [{"n_cells": 49}, {"n_genes": 49}, {"n_slices": 0}, {"random_state": -1}],
    ids=lambda w: next(iter(w)),
)
def test_too_small_numbers_raise(wrong):
    with pytest.raises(
        InputError, match=rf"{next(iter(wrong))} must be at least \d+ .*, not {next(iter(wrong.values()))}\.$"
    ):
        synthetic_tissue(**wrong)
