import numpy as np
import pytest
import scanpy as sc
from anndata import AnnData
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score

from stgraph.errors import InputError
from stgraph.graph.stofm_virtual_cells import SToFMVirtualCells
from stgraph.graph.virtual_cells import JointLeiden


@pytest.fixture(scope="module")
def layers():
    """Six layers across the slice, each with its own expression, unlike along x and along y."""
    rng = np.random.default_rng(0)
    pos = rng.uniform([500, -200], [3500, 800], (900, 2))
    layer = ((pos[:, 0] - 500) // 500).astype(int)
    x = rng.normal(size=(6, 16))[layer] + 0.5 * rng.normal(size=(900, 16))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x.astype(np.float32), pos


def specification(x, nodes, alpha, resolution, n_neighbors):
    """Sections 3.1 and 3.3 of the specification, line by line, in scanpy."""
    box = nodes.max(axis=0) - nodes.min(axis=0)
    nodes = (nodes - (nodes.max(axis=0) + nodes.min(axis=0)) / 2) / np.sqrt((box**2).sum()) * 100
    s = nodes / np.linalg.norm(nodes, axis=1).max()
    p = PCA(n_components=2).fit_transform(x)
    p = p / np.linalg.norm(p, axis=1).max()
    adata = AnnData(obsm={"X_mixed": alpha * s + (1 - alpha) * p})
    sc.pp.neighbors(adata, n_neighbors=n_neighbors, use_rep="X_mixed")
    sc.tl.leiden(adata, flavor="igraph", resolution=resolution, n_iterations=-1, directed=False)
    label = adata.obs["leiden"].astype(int).to_numpy()
    return label, np.stack([nodes[label == c].mean(axis=0) for c in range(label.max() + 1)])


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(
    "wish", [{}, {"alpha": 0.8}, {"alpha": 0.0}, {"alpha": 1.0, "resolution": 3.0}, {"n_neighbors": 15}]
)
def test_the_specification_in_scanpy_gives_the_same_labels(layers, wish):
    x, pos = layers
    builder = SToFMVirtualCells(**wish)
    label, _ = specification(x, pos, builder.alpha, builder.resolution, builder.n_neighbors)
    virtual = builder(x, pos)
    assert len(virtual) > 3
    assert adjusted_rand_score(label, virtual.membership) == 1.0


def test_means_are_plain(layers):
    x, pos = layers
    virtual = SToFMVirtualCells()(x, pos)
    members = virtual.membership == 2
    np.testing.assert_allclose(virtual.x[2], x[members].mean(axis=0), rtol=1e-5)
    assert np.linalg.norm(virtual.x, axis=1).max() < 0.999  # of unit vectors, and not made one again
    np.testing.assert_allclose(virtual.pos[2], pos[members].mean(axis=0))


def test_neither_invariant_to_rotation_nor_to_the_sign_of_an_axis_as_joint_leiden_is(layers):
    x, pos = layers
    turn = np.array([[0.0, -1.0], [1.0, 0.0]])
    # Mirrored features: the same distances, but their principal axes may take another sign, as another solver's may.
    as_stofm, as_joint = (
        [builder(features, places).membership for features, places in ((x, pos), (x, pos @ turn.T), (-x, pos))]
        for builder in (SToFMVirtualCells(alpha=0.5), JointLeiden(alpha=0.5))
    )
    np.testing.assert_array_equal(as_joint[1], as_joint[0])
    assert adjusted_rand_score(as_stofm[0], as_stofm[1]) < 0.7
    assert adjusted_rand_score(as_stofm[0], as_stofm[2]) < 0.7
    assert adjusted_rand_score(as_joint[0], as_joint[2]) > adjusted_rand_score(as_stofm[0], as_stofm[2]) + 0.2


@pytest.mark.parametrize("n", [1, 2, 3, 5, 10, 11])
def test_tiny_slices(n):
    rng = np.random.default_rng(n)
    virtual = SToFMVirtualCells()(rng.normal(size=(n, 4)), rng.normal(size=(n, 2)))
    assert virtual.num_cells.sum() == n


def test_coincident_cells():
    x, pos = np.repeat(np.eye(4), 30, axis=0), np.repeat([[0.0, 0.0], [5.0, 5.0]], 60, axis=0)
    assert SToFMVirtualCells(resolution=0.1)(x, pos).num_cells.sum() == 120
    assert SToFMVirtualCells()(np.ones((30, 3)), np.zeros((30, 2))).num_cells.sum() == 30


@pytest.mark.parametrize("wrong", [{"alpha": -0.1}, {"alpha": 1.1}, {"resolution": 0.0}, {"n_neighbors": 1}])
def test_senseless_parameters(wrong):
    with pytest.raises(InputError, match="SToFMVirtualCells needs"):
        SToFMVirtualCells(**wrong)


def test_one_feature_is_too_few():
    with pytest.raises(InputError, match="at least 2 features"):
        SToFMVirtualCells()(np.ones((30, 1)), np.ones((30, 2)))
