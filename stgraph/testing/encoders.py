"""The contract of a slice encoder."""

import warnings
from collections.abc import Callable
from typing import ClassVar

import numpy as np
import pytest
import scipy.sparse as sp
from anndata import AnnData
from numpy.typing import NDArray

from stgraph import _keys
from stgraph._config import instantiate, to_config
from stgraph.baselines.base import SliceEncoder
from stgraph.errors import StgraphWarning
from stgraph.io.synthetic import synthetic_tissue

_TURN = np.array([[0.6, -0.8], [0.8, 0.6]]) @ np.diag([1.0, -1.0])
"""Turns and mirrors."""


class SliceEncoderContract:
    """Inherit, and give ``make``: an encoder that suits slices of 150 cells and 60 genes.

    One that knows lengths in microns sets ``unit_free = False``; one that learns by steps
    of floats may loosen ``tolerance``, the largest error as a share of the largest feature.

    Examples
    --------
    >>> from stgraph.baselines import NeighborPCA
    >>> from stgraph.testing.encoders import SliceEncoderContract
    >>> class TestNeighborPCA(SliceEncoderContract):
    ...     make = staticmethod(lambda: NeighborPCA(n_neighbors=9))
    """

    make: Callable[[], SliceEncoder]

    unit_free: ClassVar[bool] = True
    """Whether positions may be in any unit."""

    tolerance: ClassVar[float] = 1e-4
    """Largest difference that counts as none, as a share of the largest feature."""

    @pytest.fixture(scope="class")
    @classmethod
    def slices(cls) -> list[AnnData]:
        """Two to learn from, and one never seen; the same for all tests."""
        return synthetic_tissue(n_cells=150, n_genes=60, n_slices=3)

    @pytest.fixture(scope="class")
    @classmethod
    def encoder(cls, slices: list[AnnData]) -> SliceEncoder:
        """Fitted; the same for all tests."""
        return cls.make().fit(slices[:2])

    def check_same(self, x: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
        """Equal up to the tolerance."""
        np.testing.assert_allclose(x, expected, rtol=0, atol=self.tolerance * max(float(np.abs(expected).max()), 1e-3))

    def test_describes_any_slice(self, encoder: SliceEncoder, slices: list[AnnData]) -> None:
        """One finite row of float32 for each cell, equally wide for all slices, seen before or not."""
        width = encoder.transform(slices[0]).shape[1]
        for adata in slices:
            x = encoder.transform(adata)
            assert x.dtype == np.float32
            assert x.shape == (adata.n_obs, width)
            assert np.isfinite(x).all()

    def test_fit_returns_itself(self, slices: list[AnnData]) -> None:
        """So that calls can be chained."""
        encoder = self.make()
        assert encoder.fit(slices[:1]) is encoder

    def test_same_numbers_twice(self, encoder: SliceEncoder, slices: list[AnnData]) -> None:
        """The same seed gives the same numbers, to the bit."""
        again = self.make().fit([adata.copy() for adata in slices[:2]])
        np.testing.assert_array_equal(again.transform(slices[2]), encoder.transform(slices[2]))
        np.testing.assert_array_equal(encoder.transform(slices[2]), encoder.transform(slices[2]))

    def test_fitting_again_forgets(self, slices: list[AnnData]) -> None:
        """What was learnt before leaves no trace."""
        encoder = self.make().fit(slices[:2])
        fresh = self.make().fit(slices[1:])
        np.testing.assert_array_equal(encoder.fit(slices[1:]).transform(slices[0]), fresh.transform(slices[0]))

    def test_order_of_cells(self, encoder: SliceEncoder, slices: list[AnnData]) -> None:
        """Rows follow their cells."""
        order = np.random.default_rng(0).permutation(slices[2].n_obs)
        self.check_same(encoder.transform(slices[2][order].copy()), encoder.transform(slices[2])[order])

    def test_order_of_genes(self, encoder: SliceEncoder, slices: list[AnnData]) -> None:
        """Genes are known by name."""
        order = np.random.default_rng(0).permutation(slices[2].n_vars)
        self.check_same(encoder.transform(slices[2][:, order].copy()), encoder.transform(slices[2]))

    def test_rigid_motion(self, encoder: SliceEncoder, slices: list[AnnData]) -> None:
        """A slice may be turned, mirrored and moved."""
        self.check_same(encoder.transform(_moved(slices[2], 1.0)), encoder.transform(slices[2]))

    def test_unit_of_positions(self, encoder: SliceEncoder, slices: list[AnnData]) -> None:
        """Pixels are as good as microns."""
        if not self.unit_free:
            pytest.skip("This encoder knows lengths in microns.")
        self.check_same(encoder.transform(_moved(slices[2], 7.3)), encoder.transform(slices[2]))

    def test_fit_does_not_depend_on_position(self, slices: list[AnnData]) -> None:
        """Nor on where the training slices lie, each in a frame of its own."""
        moved = [_moved(adata, 1.0) for adata in slices[:2]]
        self.check_same(self.make().fit(moved).transform(slices[2]), self.make().fit(slices[:2]).transform(slices[2]))

    def test_labels_are_not_looked_at(self, encoder: SliceEncoder, slices: list[AnnData]) -> None:
        """A leak: the same features come of slices without any annotation, or with a shuffled one."""
        bare = [adata.copy() for adata in slices]
        for adata in bare:
            adata.obs = adata.obs[[_keys.SLICE]]
        found = self.make().fit(bare[:2]).transform(bare[2])
        np.testing.assert_array_equal(found, encoder.transform(slices[2]))

    def test_missing_genes(self, encoder: SliceEncoder, slices: list[AnnData]) -> None:
        """A slice of a smaller panel is described in the same columns, and nobody is left to guess."""
        whole = encoder.transform(slices[2])
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            x = encoder.transform(slices[2][:, 12:].copy())
        assert x.shape == whole.shape
        assert np.isfinite(x).all()
        if not np.array_equal(x, whole):
            said = [str(w.message) for w in told if issubclass(w.category, StgraphWarning)]
            assert any("lacks 12 of the" in text or "lacks 11 of the" in text for text in said), said

    @pytest.mark.parametrize("n", [1, 2, 5])
    def test_tiny_slices(self, encoder: SliceEncoder, slices: list[AnnData], n: int) -> None:
        """Even a single cell, which has no neighbours, gets a finite description."""
        x = encoder.transform(slices[2][:n].copy())
        assert x.shape == (n, encoder.transform(slices[2]).shape[1])
        assert np.isfinite(x).all()

    def test_cells_without_counts_and_in_one_place(self, encoder: SliceEncoder, slices: list[AnnData]) -> None:
        """Nearly empty and coincident cells occur."""
        adata = slices[2].copy()
        keep = np.ones(adata.n_obs)
        keep[:3] = 0
        adata.X = sp.csr_matrix(sp.diags(keep) @ adata.X).astype(np.int32)
        adata.obsm[_keys.SPATIAL][10:30] = adata.obsm[_keys.SPATIAL][10]
        assert np.isfinite(encoder.transform(adata)).all()

    def test_input_is_not_changed(self, slices: list[AnnData]) -> None:
        """Neither counts nor slots."""
        before = [adata.copy() for adata in slices]
        encoder = self.make().fit(slices[:2])
        encoder.transform(slices[2])
        for adata, old in zip(slices, before, strict=True):
            assert adata.X.dtype == old.X.dtype
            assert (adata.X != old.X).nnz == 0
            np.testing.assert_array_equal(adata.obsm[_keys.SPATIAL], old.obsm[_keys.SPATIAL])
            assert [set(adata.obs), set(adata.obsm), set(adata.uns), set(adata.layers)] == [
                set(old.obs), set(old.obsm), set(old.uns), set(old.layers)
            ]  # fmt: skip

    def test_config_round_trip(self, encoder: SliceEncoder, slices: list[AnnData]) -> None:
        """The config of an encoder, fitted or not, builds one that learns the same."""
        config = to_config(encoder)
        assert config == to_config(self.make())
        again = instantiate(config)
        assert to_config(again) == config
        np.testing.assert_array_equal(again.fit(slices[:2]).transform(slices[2]), encoder.transform(slices[2]))


def _moved(adata: AnnData, unit: float) -> AnnData:
    moved = adata.copy()
    moved.obsm[_keys.SPATIAL] = (adata.obsm[_keys.SPATIAL] @ _TURN.T + [300.0, -70.0]) * unit
    return moved
