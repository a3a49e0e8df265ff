import numpy as np
import pytest

import stgraph
from stgraph._config import instantiate, to_config
from stgraph.errors import InputError
from stgraph.tasks.shifts import HalfSlice, MissingGenes, SharedGenes, Thinned, robustness

SHIFTS = [Thinned(0.5), HalfSlice(), SharedGenes(30)]


@pytest.mark.parametrize("shift", SHIFTS)
def test_a_shift_changes_a_copy_and_depends_on_its_seed_alone(shift, tissue):
    before = tissue.copy()
    one, again, other = (shift(tissue, random_state=seed) for seed in (3, 3, 4))
    assert (one.obs_names == again.obs_names).all()
    assert (one.var_names == again.var_names).all()
    assert (one.X != again.X).nnz == 0
    assert one.shape != other.shape or one.X.shape != before.X.shape or (one.X != other.X).nnz > 0
    assert not one.is_view
    assert (tissue.X != before.X).nnz == 0
    assert (tissue.obs_names == before.obs_names).all()
    assert instantiate(to_config(shift)) == shift
    # What is left is as it was.
    left = before[one.obs_names, one.var_names]
    assert (one.obsm["spatial"] == left.obsm["spatial"]).all()
    if not isinstance(shift, Thinned):
        assert (one.X != left.X).nnz == 0


def test_thinning_keeps_molecules_at_random(tissue):
    thinned = Thinned(0.3)(tissue)
    assert (thinned.X > tissue.X).nnz == 0
    assert thinned.X.sum() / tissue.X.sum() == pytest.approx(0.3, abs=0.01)


def test_a_half_lies_on_one_side_of_a_line():
    tissue = stgraph.synthetic_tissue(n_cells=101, n_genes=60)[0]
    directions = set()
    for seed in range(4):
        half = HalfSlice()(tissue, random_state=seed)
        assert half.n_obs == 51
        kept = tissue.obs_names.isin(half.obs_names)
        assert list(half.obs_names) == list(tissue.obs_names[kept])
        pos = tissue.obsm["spatial"]
        angles = np.linspace(0, 2 * np.pi, 720, endpoint=False)
        along = pos @ np.array([np.cos(angles), np.sin(angles)])
        gap = along[~kept].min(axis=0) - along[kept].max(axis=0)
        assert gap.max() > -0.02 * np.ptp(pos)
        directions.add(tuple(kept))
    assert len(directions) == 4


def test_a_panel_is_drawn(tissue):
    panel = SharedGenes(30)(tissue)
    assert panel.n_vars == 30
    assert panel.n_obs == tissue.n_obs
    assert list(panel.var_names) == [gene for gene in tissue.var_names if gene in set(panel.var_names)]
    assert set(panel.var_names) != set(SharedGenes(30)(tissue, random_state=1).var_names)


def test_nothing_to_take_away_is_said(tissue):
    with pytest.raises(InputError, match="has 80 genes, so none would be taken away to leave 80"):
        SharedGenes(80)(tissue)
    with pytest.raises(InputError, match="Thinned needs a share of counts"):
        Thinned(0.0)
    with pytest.raises(InputError, match="n_genes of at least 1"):
        SharedGenes(0)


def test_the_suite():
    assert robustness() == [Thinned(0.3), HalfSlice(), SharedGenes(300), MissingGenes(300)]
    assert [shift.name for shift in SHIFTS] == ["thinned to 50%", "half slice", "30 genes"]


def test_the_genes_that_are_missing_are_those_that_are_not_shared(tissue):
    """One choice, told to those who learn or not told."""
    np.testing.assert_array_equal(MissingGenes(20)(tissue).var_names, SharedGenes(20)(tissue).var_names)
    assert (SharedGenes(20).everywhere, MissingGenes(20).everywhere) == (True, False)


def test_slices_of_one_panel_keep_the_same_genes(tissue):
    mirrored = tissue[:, ::-1].copy()
    assert set(SharedGenes(20)(tissue).var_names) == set(SharedGenes(20)(mirrored).var_names)
    assert set(SharedGenes(20)(tissue, random_state=1).var_names) != set(SharedGenes(20)(tissue).var_names)
