import numpy as np
import pytest
import scipy.sparse as sp

import stgraph
from stgraph.baselines import NeighborMean, SmoothGeneMeans, SmoothGenes
from stgraph.baselines.smooth_genes import smoothness
from stgraph.errors import InputError, StgraphWarning
from stgraph.preprocess.gene_values import LogValues
from stgraph.preprocess.pearson import PearsonResiduals


def nearest(pos, k):
    return np.argsort(np.linalg.norm(pos[:, None] - pos, axis=2), axis=1)[:, 1 : k + 1]


def test_smoothness_is_the_share_of_variance_explained(slices):
    """Of a regression within each slice, with one slope for both."""
    slices = [adata[:, np.ravel(slices[0].X.sum(axis=0)) > 0].copy() for adata in slices]
    values = LogValues().fit(slices)
    own, around = [], []
    for adata in slices:
        (x,) = values.blocks(adata, np.arange(adata.n_vars))
        mean = x[nearest(adata.obsm["spatial"], 6)].mean(axis=1)
        own.append(x - x.mean(axis=0))
        around.append(mean - mean.mean(axis=0))
    own, around = np.concatenate(own), np.concatenate(around)
    share = [np.corrcoef(a, b)[0, 1] ** 2 * (a @ b > 0) for a, b in zip(own.T, around.T, strict=True)]
    np.testing.assert_allclose(smoothness(values, slices), share, atol=1e-4)


def test_blocks_of_genes_are_put_together(slices, monkeypatch):
    values = LogValues().fit(slices)
    whole = smoothness(values, slices)
    monkeypatch.setattr("stgraph.baselines.smooth_genes._BLOCK", 320 * 7)
    np.testing.assert_allclose(smoothness(values, slices), whole, atol=1e-6)


@pytest.mark.parametrize("values", [LogValues(), PearsonResiduals()])
def test_planted_smooth_genes_are_found(tissue, values):
    """Genes that follow position, among others as variable that do not."""
    rng = np.random.default_rng(0)
    pos = tissue.obsm["spatial"]
    level = 5 + 20 * (pos[:, 0] > np.median(pos[:, 0]))
    counts = np.full((tissue.n_obs, tissue.n_vars), 200)
    counts[:, :60] = rng.poisson(rng.permutation(level)[:, None], (tissue.n_obs, 60))
    counts[:, 30:40] = rng.poisson(level[:, None], (tissue.n_obs, 10))
    tissue.X = sp.csr_matrix(counts.astype(np.int32))
    encoder = SmoothGenes(10, values=values).fit([tissue])
    assert encoder.genes == list(tissue.var_names[30:40])


def test_values_are_centred_by_the_training_slices(slices):
    encoder = SmoothGenes(20).fit(slices)
    x = np.concatenate([encoder.transform(adata) for adata in slices])
    np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-5)
    part = slices[0][slices[0].obsm["spatial"][:, 0] < np.median(slices[0].obsm["spatial"][:, 0])]
    inside = slices[0].obs_names.isin(part.obs_names)
    np.testing.assert_allclose(encoder.transform(part.copy()), x[: slices[0].n_obs][inside], atol=1e-6)


def test_genes_a_slice_lacks_count_as_average(slices):
    encoder = SmoothGenes(20).fit(slices)
    with pytest.warns(StgraphWarning, match="synthetic_0 lacks 1 of the 20 genes the encoder reads"):
        x = encoder.transform(slices[0][:, slices[0].var_names != encoder.genes[3]].copy())
    assert (x[:, 3] == 0).all()
    assert (x[:, 4] != 0).any()


def test_genes_that_do_not_vary_are_left_out(tissue):
    tissue.X = sp.csr_matrix(np.full(tissue.shape, 3, dtype=np.int32))
    with pytest.raises(InputError, match="No gene varies"):
        SmoothGenes().fit([tissue])


def test_too_few_shared_genes(slices):
    encoder = SmoothGenes(20).fit(slices)
    slices[0].var_names = [f"other{i}" for i in range(slices[0].n_vars)]
    with pytest.raises(InputError, match=r"synthetic_0 has only 0 of the encoder's 80 genes .*'other0'"):
        encoder.transform(slices[0])


def test_means_reduced_to_all_components_keep_distances(slices):
    """Components of scaled means are a rotation of them."""
    wide = NeighborMean(SmoothGenes(12), (4, 20)).fit(slices)
    x = [wide.transform(adata) for adata in slices]
    scaled = (x[0] - np.concatenate(x).mean(axis=0)) / np.concatenate(x).std(axis=0)
    reduced = SmoothGeneMeans(12, n_neighbors=(4, 20), n_components=24).fit(slices).transform(slices[0])
    np.testing.assert_allclose(reduced @ reduced.T, scaled @ scaled.T, atol=1e-2)


@pytest.mark.parametrize("bad", [{"n_genes": 0}, {"n_components": 0}, {"n_neighbors": (0,)}])
def test_senseless_settings(bad):
    with pytest.raises(InputError, match=next(iter(bad))):
        SmoothGeneMeans(**bad)


def test_means_of_smooth_genes_tell_domains_apart():
    """Planted regions: nearest class means on another slice."""
    slices = stgraph.synthetic_tissue(n_cells=600, n_genes=80, n_slices=2)
    encoder = SmoothGeneMeans(40, n_components=15).fit(slices[:1])
    x, other = (encoder.transform(adata) for adata in slices)
    y, truth = (adata.obs["domain"].cat.codes.to_numpy() for adata in slices)
    centers = np.stack([x[y == label].mean(axis=0) for label in np.unique(y)])
    found = np.unique(y)[np.linalg.norm(other[:, None] - centers, axis=2).argmin(axis=1)]
    assert (found == truth).mean() > 0.75
    shuffled = np.random.default_rng(0).permutation(truth)
    assert (found == shuffled).mean() < 0.4
