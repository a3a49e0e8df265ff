import subprocess
import sys

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from stgraph.errors import InputError
from stgraph.plot.embedding import FEWEST_CELLS, embedding_plot, umap_coordinates


def test_importing_plots_is_light():
    code = (
        "import sys, stgraph.plot; "
        "print([m for m in ('umap', 'numba', 'torch', 'matplotlib.pyplot', 'anndata') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_umap_separates_repeats_and_takes_small_inputs():
    # One test, because UMAP takes many seconds to compile.
    rng = np.random.default_rng(0)
    x = np.r_[rng.normal(size=(40, 8)), rng.normal(size=(40, 8)) + 12]
    coords, index = umap_coordinates(x, random_state=3)
    assert coords.shape == (80, 2)
    assert coords.dtype == np.float32
    np.testing.assert_array_equal(index, np.arange(80))
    centres = coords[:40].mean(axis=0), coords[40:].mean(axis=0)
    assert np.linalg.norm(centres[0] - centres[1]) > 2 * coords[:40].std(axis=0).max()

    again, _ = umap_coordinates(x, random_state=3)
    np.testing.assert_array_equal(coords, again)

    some, index = umap_coordinates(x, random_state=3, max_cells=50)
    assert some.shape == (50, 2)
    assert len(set(index.tolist())) == 50
    assert (np.diff(index) > 0).all()
    np.testing.assert_array_equal(index, umap_coordinates(x, random_state=3, max_cells=50)[1])

    for small in (x[:FEWEST_CELLS], x[:12], np.ones((30, 4)), x[:, :1]):
        coords, _ = umap_coordinates(small, random_state=0)
        assert coords.shape == (len(small), 2)
        assert np.isfinite(coords).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (2, 1), (4, 3), (FEWEST_CELLS - 1, 2)])
def test_a_handful_of_cells_is_shown_by_principal_components(shape):
    x = np.random.default_rng(0).normal(size=shape)
    coords, index = umap_coordinates(x, random_state=0)
    assert coords.shape == (shape[0], 2)
    assert len(index) == shape[0]
    centred = x - x.mean(axis=0)
    if min(shape) <= 2:
        np.testing.assert_allclose(np.linalg.norm(coords, axis=1), np.linalg.norm(centred, axis=1), atol=1e-5)


@pytest.mark.parametrize("x", [np.zeros((0, 3)), np.zeros((3, 0)), np.zeros(3), [[np.nan, 0.0]]])
def test_unusable_matrix(x):
    with pytest.raises(InputError, match="finite matrix"):
        umap_coordinates(x, random_state=0)


def test_unusable_sample_size():
    with pytest.raises(InputError, match="max_cells"):
        umap_coordinates(np.zeros((3, 2)), random_state=0, max_cells=0)


def test_missing_labels_lie_below_and_colours_hold():
    coords = np.random.default_rng(0).normal(size=(50, 2))
    labels = np.array(["a", ""] * 25)
    figure = embedding_plot(coords, labels, colors={"a": "#ff0000"}, title="$t_{", axis_name="PC")
    (dots,) = figure.axes[0].collections
    colors = dots.get_facecolors()
    assert (colors[:25, :3] == colors[0, :3]).all()
    np.testing.assert_allclose(colors[25:, :3], [[1, 0, 0]] * 25)
    shown = {tuple(row) for row in np.round(np.asarray(dots.get_offsets()), 6)}
    assert shown == {tuple(row) for row in np.round(coords, 6)}
    assert figure.axes[0].get_xlabel() == "PC 1"
    FigureCanvasAgg(figure).draw()


def test_shapes_must_agree():
    with pytest.raises(InputError, match="coordinates"):
        embedding_plot(np.zeros((3, 2)), ["a"])
