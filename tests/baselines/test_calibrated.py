import numpy as np
import pytest

import stgraph
from stgraph.baselines import Calibrated, GenePCA, Joined, NeighborMean
from stgraph.errors import InputError, StgraphWarning
from stgraph.preprocess.thinning import thin_counts
from stgraph.testing.encoders import SliceEncoderContract


class TestContract(SliceEncoderContract):
    make = staticmethod(lambda: Calibrated(GenePCA(n_components=4)))


@pytest.fixture
def slices():
    return stgraph.synthetic_tissue(n_cells=300, n_genes=80, n_slices=2)


def test_slices_of_like_depth_are_described_as_without(slices):
    plain, matched = GenePCA(n_components=5).fit(slices[:1]), Calibrated(GenePCA(n_components=5)).fit(slices[:1])
    np.testing.assert_array_equal(matched.transform(slices[0]), plain.transform(slices[0]))
    deeper = slices[1].copy()
    deeper.X = deeper.X * 4
    np.testing.assert_array_equal(matched.transform(deeper), plain.transform(deeper))


@pytest.mark.parametrize("encoder", [GenePCA(n_components=5), NeighborMean(GenePCA(n_components=5), 20)])
def test_shallow_slices_come_near_their_full_selves(slices, encoder):
    shallow = thin_counts(slices[1], 0.2, 7)
    full = encoder.fit(slices[:1]).transform(slices[1])

    def error(x):
        return float(((x - full) ** 2).sum() / ((full - full.mean(axis=0)) ** 2).sum())

    matched = Calibrated(encoder).fit(slices[:1])
    assert error(matched.transform(shallow)) < 0.8 * error(encoder.transform(shallow))


def test_it_does_not_depend_on_which_tissue_a_slice_holds(slices):
    """Half of a slice is described as in the whole; scaling by itself would not."""
    shallow = thin_counts(slices[1], 0.25, 3)
    left = np.argsort(shallow.obsm["spatial"][:, 0])[:150]
    matched = Calibrated(GenePCA(n_components=5)).fit(slices[:1])
    whole, half = matched.transform(shallow)[left], matched.transform(shallow[left].copy())
    spread = whole.std()
    assert np.abs(whole - half).mean() < 0.1 * spread


def test_views_keep_apart(slices):
    """What one view holds does not change with what stands beside it."""
    own = GenePCA(n_components=4)
    both = Calibrated(Joined({"own": own, "around": NeighborMean(own, 20)}, unguided="around")).fit(slices[:1])
    other = Calibrated(Joined({"own": own, "around": NeighborMean(own, 60)}, unguided="around")).fit(slices[:1])
    shallow = thin_counts(slices[1], 0.3, 1)
    x, y = both.transform(shallow), other.transform(shallow)
    np.testing.assert_allclose(x[:, both.views()["own"]], y[:, other.views()["own"]], atol=1e-5)
    assert both.unguided == "around"


def test_missing_genes_are_made_up_for(slices):
    encoder = NeighborMean(GenePCA(n_components=4), 20)
    full = encoder.fit(slices[:1]).transform(slices[1])
    fewer = slices[1][:, ::3].copy()
    with pytest.warns(StgraphWarning, match="lacks"):
        plain = encoder.transform(fewer)
    with pytest.warns(StgraphWarning, match="lacks"):
        matched = Calibrated(encoder).fit(slices[:1]).transform(fewer)
    assert ((matched - full) ** 2).sum() < 0.8 * ((plain - full) ** 2).sum()


def test_few_cells_are_enough(slices):
    assert len(Calibrated(GenePCA(), max_cells=1).fit(slices)._slices) == 1


def test_bad_arguments(slices):
    with pytest.raises(InputError, match="alpha"):
        Calibrated(GenePCA(), alpha=0.0)
    with pytest.raises(InputError, match="not fitted"):
        Calibrated(GenePCA()).transform(slices[0])


def test_views_within_views_keep_apart(slices):
    """A map reads the smallest views only, so what is joined within does not change it."""
    own = {"few": GenePCA(n_components=3), "more": NeighborMean(GenePCA(n_components=5), 20)}
    around = NeighborMean(GenePCA(n_components=4), 40)
    nested = Joined({"around": around, "own": Joined(own, unguided="few")}, unguided="around")
    shallow = thin_counts(slices[1], 0.3, 1)
    x = Calibrated(nested).fit(slices[:1])
    y = Calibrated(Joined(own, unguided="few")).fit(slices[:1])
    told, alone = x.transform(shallow), y.transform(shallow)
    # Joined scales each block as a whole, so the two agree but for one factor.
    inner, whole = told[:, x.views()["own.more"]], alone[:, y.views()["more"]]
    np.testing.assert_allclose(inner / inner.std(), whole / whole.std(), atol=1e-3)
    assert not np.allclose(told, nested.transform(shallow), atol=1e-2)
