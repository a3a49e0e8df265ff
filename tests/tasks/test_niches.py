import anndata
import numpy as np
import pytest
import scipy.sparse as sp
from anndata import AnnData
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from stgraph.errors import InputError
from stgraph.io.read import canonicalize
from stgraph.tasks.niches import niche_labels


def stripes(name, seed):
    """Three stripes; in each another mix of three types."""
    rng = np.random.default_rng(seed)
    pos = rng.uniform(0, 300, (400, 2))
    stripe = (pos[:, 0] // 100).astype(int)
    types = np.array(["A", "B", "C"])[(stripe + (rng.random(400) < 0.2)) % 3]
    adata = AnnData(sp.csr_matrix(np.ones((400, 2), dtype=np.int32)), obsm={"spatial": pos})
    adata.obs["cell_type"] = types
    adata.obs_names = [f"{name}{i}" for i in range(400)]
    return canonicalize(adata, name=name, um_per_unit=1.0), stripe


@pytest.mark.parametrize("who", [{"n_neighbors": 20}, {"radius": 35.0}])
def test_planted_niches_are_found_with_one_name_in_all_slices(who):
    made = [stripes(name, seed) for seed, name in enumerate("ab")]
    out = niche_labels([adata for adata, _ in made], "cell_type", n_niches=3, **who)
    found = np.concatenate([adata.obs["stgraph_niche"].astype(str) for adata in out])
    assert adjusted_rand_score(np.concatenate([stripe for _, stripe in made]), found) > 0.75
    counts = [np.sum(found == f"niche {i}") for i in (1, 2, 3)]
    assert counts == sorted(counts, reverse=True)
    for (adata, _), labelled in zip(made, out, strict=True):
        assert "stgraph_niche" not in adata.obs
        assert "niche" not in adata.uns["stgraph"]
        said = labelled.uns["stgraph"]["niche"]
        assert said["derived"] is True
        assert said["from"] == "cell_type"
        assert {name: said[name] for name in who} == who


def test_niches_are_clusters_of_shares_within_a_radius():
    adata, _ = stripes("a", 0)
    adata.obs.loc[adata.obs_names[:40], "cell_type"] = None
    (out,) = niche_labels(adata, "cell_type", n_niches=4, radius=30.0, random_state=5)
    types = adata.obs["cell_type"]
    onehot = np.stack([(types == t).to_numpy() for t in "ABC"], axis=1).astype(float)
    counts = (cdist(*[adata.obsm["spatial"]] * 2) <= 30.0) @ onehot
    shares = counts / counts.sum(axis=1, keepdims=True)
    expected = KMeans(4, n_init=10, random_state=5).fit_predict(shares)
    assert adjusted_rand_score(expected, out.obs["stgraph_niche"].astype(str)) == 1


def test_a_cell_far_from_every_known_type_has_no_niche(tmp_path):
    adata, _ = stripes("a", 0)
    adata.obsm["spatial"][0] = [9000.0, 9000.0]
    adata.obs.loc[adata.obs_names[0], "cell_type"] = None
    (out,) = niche_labels(adata, "cell_type", n_niches=3, radius=30.0)
    assert out.obs["stgraph_niche"].isna().tolist() == [True] + [False] * 399
    out.write_h5ad(tmp_path / "out.h5ad")
    again = anndata.read_h5ad(tmp_path / "out.h5ad")
    assert bool(again.uns["stgraph"]["niche"]["derived"])
    assert (again.obs["stgraph_niche"].astype(str) == out.obs["stgraph_niche"].astype(str)).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_niches": 3}, "either n_neighbors or radius"),
        ({"n_niches": 3, "n_neighbors": 5, "radius": 5.0}, "either n_neighbors or radius"),
        ({"n_niches": 1, "n_neighbors": 5}, "n_niches from 2 to"),
        ({"n_niches": 1000, "n_neighbors": 5}, "n_niches from 2 to"),
        ({"n_niches": 3, "radius": -1.0}, "positive radius"),
    ],
)
def test_what_cannot_be_derived_is_said(arguments, message):
    with pytest.raises(InputError, match=message):
        niche_labels(stripes("a", 0)[0], "cell_type", **arguments)
