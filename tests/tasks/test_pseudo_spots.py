import numpy as np
import pytest
from scipy.spatial.distance import cdist, pdist

from stgraph.errors import InputError, StgraphWarning
from stgraph.tasks.pseudo_spots import gather_spots, pseudo_spots
from stgraph.tasks.spot_layouts import HexagonalSpots, SpotsAt, SquareSpots
from stgraph.tasks.target import label_target


@pytest.mark.parametrize("layout", [HexagonalSpots(), HexagonalSpots(40.0, 60.0), SquareSpots(60.0)])
def test_spots_by_brute_force(tissue, layout):
    spots = pseudo_spots(tissue, "cell_type", layout=layout)
    pos, centers = tissue.obsm["spatial"], spots.obsm["spatial"]
    offset = pos[None] - centers[:, None]
    if isinstance(layout, SquareSpots):
        inside = (np.abs(offset) <= layout.side / 2).all(axis=2)
    else:
        inside = np.sqrt((offset**2).sum(axis=2)) <= layout.diameter / 2
    np.testing.assert_array_equal(spots.X.toarray(), inside.astype(int) @ tissue.X.toarray())
    np.testing.assert_array_equal(spots.obs["n_cells"], inside.sum(axis=1))
    labels = tissue.obs["cell_type"].astype(str).to_numpy()
    for k, name in enumerate(spots.uns["proportions"]):
        expected = (inside & (labels == name)).sum(axis=1) / inside.sum(axis=1)
        np.testing.assert_allclose(spots.obsm["proportions"][:, k], expected)


def test_squares_conserve_every_count(tissue):
    spots = pseudo_spots(tissue, "cell_type", layout=SquareSpots(37.0))
    np.testing.assert_array_equal(spots.X.sum(axis=0), tissue.X.sum(axis=0))
    assert spots.obs["n_cells"].sum() == tissue.n_obs
    np.testing.assert_allclose(spots.obsm["proportions"].sum(axis=1), 1.0)


def test_hexagons_are_a_lattice_that_covers_the_slice():
    pos = np.random.default_rng(0).uniform(0, 1000, (20000, 2))
    centers, spot = HexagonalSpots(100.0, 100.0)(pos)
    assert pdist(centers).min() == pytest.approx(100.0)
    # Touching discs cover pi / sqrt(12) of the plane.
    assert (spot >= 0).mean() == pytest.approx(np.pi / np.sqrt(12), abs=0.02)
    assert cdist(pos, centers).min(axis=1).max() < 100 / np.sqrt(3) + 1e-9


def test_cells_without_a_type_and_poor_spots_are_left_out_aloud(tissue):
    tissue.obs["cell_type"] = tissue.obs["cell_type"].astype(object)
    tissue.obs.loc[tissue.obs_names[:100], "cell_type"] = None
    with pytest.warns(StgraphWarning) as caught:
        spots = pseudo_spots(tissue, "cell_type", layout=SquareSpots(60.0), min_cells=3)
    messages = " ".join(str(w.message) for w in caught)
    assert "100 cells without a type" in messages
    assert "spots have fewer than 3 cells" in messages
    assert spots.obs["n_cells"].min() >= 3
    assert spots.X.sum() <= tissue[100:].X.sum()


def test_each_cell_knows_its_spot(tissue):
    types = label_target({"": tissue}, "cell_type")
    made = gather_spots(tissue, types.of[""], types.names, min_cells=2)
    for row in range(made.spots.n_obs):
        counts = tissue[made.spot_of_cell == row].X.sum(axis=0)
        np.testing.assert_array_equal(made.spots.X[row].toarray(), np.asarray(counts))


def test_spots_can_lie_where_those_of_another_section_do(tissue):
    pos = tissue.obsm["spatial"]
    at = SpotsAt(np.concatenate([pos[:1], pos[:1] + 1e6]), 30.0)
    spots = pseudo_spots(tissue, "cell_type", layout=at)
    assert spots.n_obs == 1  # nobody is at the other
    assert spots.obs["n_cells"].iloc[0] == (cdist(pos[:1], pos) <= 15).sum()


def test_bad_input_is_said(tissue, slices):
    with pytest.raises(InputError, match="no wider than they are apart"):
        HexagonalSpots(60.0, 50.0)
    with pytest.raises(InputError, match="positive side in microns"):
        SquareSpots(0)
    with pytest.raises(InputError, match=r"shape \(M, 2\)"):
        SpotsAt(np.zeros((0, 2)))
    with pytest.raises(InputError, match="min_cells of at least 1"):
        pseudo_spots(tissue, "cell_type", min_cells=0)
    with pytest.raises(InputError, match=r"none of .* spots has 1000 cells"):
        pseudo_spots(tissue, "cell_type", min_cells=1000)
    tissue.uns["stgraph"]["unit"] = "unknown"
    with pytest.raises(InputError, match="read it with um_per_unit="):
        pseudo_spots(tissue, "cell_type")
