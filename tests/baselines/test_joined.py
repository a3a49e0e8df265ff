import numpy as np
import pytest

import stgraph
from stgraph.baselines import GenePCA, Joined, NeighborMean, WithThinnedCopies
from stgraph.baselines.advice import copies_of, unguided_view, views_of
from stgraph.errors import InputError

PARTS = {"around": NeighborMean(GenePCA(n_components=4), 12), "own": GenePCA(n_components=6)}


@pytest.fixture
def slices():
    return stgraph.synthetic_tissue(n_cells=150, n_genes=60, n_slices=2)


def test_blocks_are_the_encoders_scaled_as_wholes(slices):
    joined = Joined(PARTS, unguided="around").fit(slices)
    x = np.concatenate([joined.transform(adata) for adata in slices])
    for name, encoder in PARTS.items():
        block = x[:, joined.views()[name]]
        plain = np.concatenate([encoder.fit(slices).transform(adata) for adata in slices])
        assert block.var(axis=0).mean() == pytest.approx(1, rel=1e-4)
        expected = (plain - plain.mean(axis=0)) / np.sqrt(plain.var(axis=0).mean())
        np.testing.assert_allclose(block, expected, atol=1e-4)
    assert x.shape[1] == 10
    assert unguided_view(joined) == slice(0, 4)


def test_a_new_slice_is_not_scaled_by_itself(slices):
    joined = Joined(PARTS, unguided="own").fit(slices[:1])
    half = slices[1][:75].copy()
    np.testing.assert_allclose(
        joined.transform(half)[:, joined.views()["own"]],
        joined.transform(slices[1])[:75, joined.views()["own"]],
        atol=1e-5,
    )


def test_copies_reach_the_head_and_views_pass_through(slices):
    encoder = WithThinnedCopies(Joined(PARTS, unguided="around"), shares=(0.5,)).fit(slices)
    encoder.transform(slices[0])
    assert list(views_of(encoder)) == ["whole", "around", "own"]
    [copy] = copies_of(encoder, slices[0])
    assert list(copy.obs_names) == list(slices[0].obs_names)
    assert 0.4 < copy.X.sum() / slices[0].X.sum() < 0.6
    assert copies_of(PARTS["own"], slices[0]) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"encoders": {"own": PARTS["own"]}, "unguided": "own"}, "two encoders at least"),
        ({"encoders": {**PARTS, "whole": PARTS["own"]}, "unguided": "own"}, "none called 'whole'"),
        ({"encoders": PARTS, "unguided": "nothing"}, "no encoder 'nothing'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(InputError, match=message):
        Joined(**arguments)


def test_not_fitted(slices):
    with pytest.raises(InputError, match="not fitted"):
        Joined(PARTS, unguided="own").transform(slices[0])


def test_views_of_what_is_joined_already(slices):
    own = Joined({"few": GenePCA(n_components=3), "more": GenePCA(n_components=5)}, unguided="few")
    joined = Joined({"around": PARTS["around"], "own": own}, unguided="around").fit(slices)
    assert joined.views() == {
        "whole": slice(0, 12),
        "around": slice(0, 4),
        "own": slice(4, 12),
        "own.few": slice(4, 7),
        "own.more": slice(7, 12),
    }
