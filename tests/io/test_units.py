import warnings

import anndata as ad
import numpy as np
import pytest

from stgraph.errors import InputError, StgraphWarning
from stgraph.io.read import canonicalize
from stgraph.io.units import to_microns


def slice_at(pos, **uns):
    adata = ad.AnnData(np.ones((len(pos), 1)))
    adata.obsm["spatial"] = np.asarray(pos, dtype=float)
    adata.uns.update({"stgraph": {}} | uns)
    return adata


def visium(um_per_pixel=0.5, angle=0.3, flip=True, jitter=0.0, n_rows=12, factors=None):
    """A Visium array seen by a camera: rows sqrt(3)/2 of the pitch apart, every other row shifted."""
    row, col = np.divmod(np.arange(n_rows * 20), 20)
    col = 2 * col + row % 2
    um = np.stack([col * 50.0, row * 100.0 * np.sqrt(3) / 2], axis=1)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    noise = np.random.default_rng(0).normal(0, jitter, um.shape) if jitter else 0.0
    pixels = (um + noise) @ turn.T * [1, -1 if flip else 1] / um_per_pixel + [2000, 5000]
    adata = slice_at(pixels, spatial={"lib": {"scalefactors": factors or {"tissue_hires_scalef": 0.1}}})
    adata.obs["array_row"], adata.obs["array_col"] = row, col
    return adata, um


@pytest.mark.parametrize("um_per_pixel", [0.2, 0.5, 3.0])
@pytest.mark.parametrize("flip", [False, True])
def test_scale_of_a_visium_array_is_found(um_per_pixel, flip):
    adata, um = visium(um_per_pixel, flip=flip)
    to_microns(adata, "a")
    record = adata.uns["stgraph"]
    assert record["unit"] == "um"
    assert record["unit_source"] == "visium array"
    assert record["um_per_unit"] == pytest.approx(um_per_pixel, rel=1e-9)
    spread = np.ptp(np.linalg.norm(um - um.mean(0), axis=1))
    pos = adata.obsm["spatial"]
    assert np.ptp(np.linalg.norm(pos - pos.mean(0), axis=1)) == pytest.approx(spread)


def test_scale_of_a_visium_array_bears_what_a_camera_does():
    adata, _ = visium(0.5, jitter=2.0)
    to_microns(adata, "a")
    assert adata.uns["stgraph"]["um_per_unit"] == pytest.approx(0.5, rel=5e-3)


def unknown(adata):
    pos = adata.obsm["spatial"].copy()
    with pytest.warns(StgraphWarning, match="unit of the coordinates is unknown.*--um-per-unit .data.um_per_unit="):
        to_microns(adata, "a")
    np.testing.assert_array_equal(adata.obsm["spatial"], pos)
    record = adata.uns["stgraph"]
    assert (record["unit"], record["unit_source"]) == ("unknown", "none")
    assert np.isnan(record["um_per_unit"])


def test_nothing_is_guessed():
    unknown(slice_at([[0, 0], [1, 1]]))


def test_an_array_that_does_not_fit_is_no_scale():
    adata, _ = visium()
    adata.obsm["spatial"] = np.random.default_rng(0).permutation(adata.obsm["spatial"])
    unknown(adata)
    adata, _ = visium()
    adata.obsm["spatial"][:, 0] *= 1.5  # a square grid under a hexagonal array
    unknown(adata)


def test_array_columns_without_a_number_or_library_tell_nothing():
    adata, _ = visium()
    adata.obs["array_row"] = adata.obs["array_row"].astype(float)
    adata.obs.loc[adata.obs_names[0], "array_row"] = np.nan
    unknown(adata)
    adata, _ = visium()
    adata.obs["array_row"] = "x"
    unknown(adata)
    adata, _ = visium()
    del adata.uns["spatial"]
    unknown(adata)
    adata, _ = visium()
    adata.obs["array_row"] = adata.obs["array_col"] = 0
    unknown(adata)


def test_option_goes_before_everything():
    adata, _ = visium(factors={"microns_per_pixel": 0.7})
    pos = adata.obsm["spatial"].copy()
    to_microns(adata, "a", 2.0)
    np.testing.assert_allclose(adata.obsm["spatial"], pos * 2)
    assert adata.uns["stgraph"] == {"um_per_unit": 2.0, "unit": "um", "unit_source": "option"}


def test_microns_per_pixel_goes_before_the_array():
    adata, _ = visium(0.5, factors={"microns_per_pixel": 0.7})
    to_microns(adata, "a")
    assert adata.uns["stgraph"] == {"um_per_unit": 0.7, "unit": "um", "unit_source": "file"}


@pytest.mark.parametrize("told", [0.0, -1.0, np.nan, "0.5"])
def test_senseless_microns_per_pixel_are_passed_over(told):
    unknown(slice_at([[0, 0], [1, 1]], spatial={"lib": {"scalefactors": {"microns_per_pixel": told}}}))


def test_a_file_in_microns_stays_and_stays_again():
    adata = slice_at([[0, 0], [1, 1]], stgraph={"unit": "um", "um_per_unit": 0.3})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        to_microns(adata, "a")
        to_microns(adata, "a")
    np.testing.assert_array_equal(adata.obsm["spatial"], [[0, 0], [1, 1]])
    assert adata.uns["stgraph"] == {"unit": "um", "um_per_unit": 0.3, "unit_source": "file"}


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_senseless_option(bad):
    with pytest.raises(InputError, match="--um-per-unit must be a positive number"):
        to_microns(slice_at([[0, 0], [1, 1]]), "a", bad)


def test_images_still_lie_under_the_spots():
    factors = {"tissue_hires_scalef": 0.1, "spot_diameter_fullres": 80.0, "microns_per_pixel": 0.25, "other": "x"}
    factors["tissue_lowres_scalef"] = "not a number"
    adata = slice_at(
        [[0.0, 40.0], [100.0, 200.0]],
        spatial={"lib": {"scalefactors": factors, "images": {}}, "bare": {"images": {}}, "note": 1},
    )
    on_image = adata.obsm["spatial"] * 0.1
    before = adata.uns["spatial"]
    to_microns(adata, "a")
    new = adata.uns["spatial"]["lib"]["scalefactors"]
    np.testing.assert_allclose(adata.obsm["spatial"] * new["tissue_hires_scalef"], on_image)
    assert new["spot_diameter_fullres"] == pytest.approx(20.0)
    assert new["microns_per_pixel"] == pytest.approx(1.0)
    assert new["other"] == "x"
    assert new["tissue_lowres_scalef"] == "not a number"
    assert adata.uns["spatial"]["bare"] == {"images": {}}
    assert adata.uns["spatial"]["note"] == 1
    assert before["lib"]["scalefactors"]["tissue_hires_scalef"] == 0.1  # the caller's own is not changed


def test_libraries_of_different_scale_have_no_one_factor(tissue):
    del tissue.uns["stgraph"]
    tissue.uns["spatial"] = {name: {"scalefactors": {"microns_per_pixel": um}} for name, um in (("a", 0.2), ("b", 0.5))}
    with pytest.warns(StgraphWarning, match="unit of the coordinates is unknown"):
        canonicalize(tissue)


def test_two_spots_do_not_tell_a_scale(tissue):
    del tissue.uns["stgraph"]
    two = tissue[:2].copy()
    two.obs["array_row"], two.obs["array_col"] = [0, 1], [0, 5]
    two.uns["spatial"] = {"a": {"scalefactors": {"spot_diameter_fullres": 50.0}}}
    with pytest.warns(StgraphWarning, match="unit of the coordinates is unknown"):
        canonicalize(two)
