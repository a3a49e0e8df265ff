import warnings

import anndata as ad
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stgraph.errors import InputError, StgraphWarning
from stgraph.graph.grid import HexGrid, SquareGrid
from stgraph.testing.builders import GraphBuilderContract


def square(n_rows=16, n_columns=14):
    """Lattice coordinates and positions, one spacing apart."""
    array = np.stack(np.meshgrid(np.arange(n_columns), np.arange(n_rows)), -1).reshape(-1, 2)
    return array, array.astype(float)


def hexagonal(n_rows=16, n_columns=14):
    """Row and column as Visium has them (neighbours in a row two columns apart), and positions."""
    array = np.array([[row, 2 * column + row % 2] for row in range(n_rows) for column in range(n_columns)])
    return array, array[:, ::-1] * [0.5, np.sqrt(3) / 2]


def rings_between(kind, array):
    """Number of rings between any two spots, from their place on the array."""
    apart = np.abs(array[:, None] - array[None])
    if kind == "hexagonal":
        return np.maximum(apart[..., 0], apart.sum(axis=-1) / 2)
    return apart.max(axis=-1) if kind == "king" else apart.sum(axis=-1)


ARRAYS = {"hexagonal": hexagonal, "king": square, "rook": square}
BUILDERS = {"hexagonal": HexGrid, "king": SquareGrid, "rook": lambda n: SquareGrid(n, diagonal=False)}


def turned(pos, angle):
    return pos @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


def adjacency(near):
    dense = np.zeros(near.shape, dtype=bool)
    dense[np.repeat(np.arange(near.shape[0]), np.diff(near.indptr)), near.indices] = True
    return dense


class TestSquareGridContract(GraphBuilderContract):
    make = staticmethod(SquareGrid)

    @pytest.fixture
    def pos(self):
        return 10 * square()[1]


class TestSquareGridRookContract(TestSquareGridContract):
    make = staticmethod(lambda: SquareGrid(2, diagonal=False))


class TestHexGridContract(GraphBuilderContract):
    make = staticmethod(lambda: HexGrid(2))

    @pytest.fixture
    def pos(self):
        return 10 * hexagonal()[1]

    array = pos


@pytest.mark.parametrize("kind", ARRAYS)
@given(
    n_rings=st.integers(1, 5),
    filled=st.floats(0.25, 1.0),
    angle=st.floats(0, 7),
    spacing=st.sampled_from([1e-3, 1.0, 137.0, 1e5]),
    seed=st.integers(0, 1000),
)
@settings(deadline=None, max_examples=40)
def test_neighbours_are_those_of_the_array(kind, n_rings, filled, angle, spacing, seed):
    """With holes, turned, mirrored, jittered, and in any unit."""
    array, pos = ARRAYS[kind]()
    rng = np.random.default_rng(seed)
    here = np.flatnonzero(rng.random(len(pos)) < filled)
    found = BUILDERS[kind](n_rings)(
        spacing * turned(pos[here] * [1, -1] + rng.uniform(-0.04, 0.04, (len(here), 2)), angle) + 10 * spacing
    )
    rings = rings_between(kind, array[here])
    np.testing.assert_array_equal(adjacency(found), (rings <= n_rings) & (rings > 0))


@pytest.mark.parametrize(("kind", "counts"), [("hexagonal", (6, 18, 36)), ("king", (8, 24, 48)), ("rook", (4, 12, 24))])
def test_number_of_neighbours_inside(kind, counts):
    _, pos = ARRAYS[kind]()
    center = len(pos) // 2 + 7
    for n_rings, expected in enumerate(counts, start=1):
        assert np.diff(BUILDERS[kind](n_rings)(pos).indptr)[center] == expected


@pytest.mark.parametrize("kind", ARRAYS)
def test_a_sparse_sample_of_an_array(kind):
    """Most spots lack all of their nearest neighbours."""
    array, pos = ARRAYS[kind](150, 150)
    here = np.random.default_rng(0).permutation(len(pos))[: len(pos) // 25]
    found = BUILDERS[kind](2)(turned(pos[here], 0.4))
    rings = rings_between(kind, array[here])
    np.testing.assert_array_equal(adjacency(found), (rings <= 2) & (rings > 0))


@pytest.mark.parametrize("kind", ARRAYS)
def test_sheared_and_stretched_arrays(kind):
    array, pos = ARRAYS[kind](60, 60)
    pos = np.rint(turned(137 * pos, 0.02) @ np.array([[1.02, 0.01], [-0.015, 0.98]]))
    rings = rings_between(kind, array)
    for n_rings in (1, 10):
        found = adjacency(BUILDERS[kind](n_rings)(pos))
        np.testing.assert_array_equal(found, (rings <= n_rings) & (rings > 0))


def test_one_row_of_an_array():
    pos = np.stack([np.arange(30.0), np.zeros(30)], axis=1)
    for builder in (HexGrid(2), SquareGrid(2), SquareGrid(2, diagonal=False)):
        assert builder(turned(pos, 0.3)).nnz == 2 * (29 + 28)


@pytest.mark.parametrize("n", [0, 1, 2])
def test_hardly_any_spots(n):
    assert HexGrid()(np.arange(2.0 * n).reshape(n, 2)).nnz == 2 * (n == 2)


def test_coincident_spots():
    _, pos = hexagonal(4, 4)
    near = HexGrid()(np.concatenate([pos, pos]))
    assert (near.data == 0).sum() == 2 * len(pos)
    np.testing.assert_array_equal(adjacency(near)[:16, :16], adjacency(HexGrid()(pos)))


def jumbled():
    return np.random.default_rng(0).uniform(0, 30, (900, 2))


def spread_out():
    """Cells of tissue: no two closer than most lattices have them, in no order."""
    _, pos = hexagonal(30, 30)
    return pos + np.random.default_rng(0).uniform(-0.35, 0.35, pos.shape)


@pytest.mark.parametrize("angle", [0.0, 0.1, 0.26, 0.5, np.pi / 4])
@pytest.mark.parametrize(
    ("builder", "cells", "match"),
    [
        (HexGrid(), jumbled, r"% of the cells do not lie on a hexagonal grid.*graph=knn, graph=delaunay.*SquareGrid"),
        (SquareGrid(), jumbled, r"% of the cells do not lie on a square grid.*HexGrid"),
        (HexGrid(), spread_out, "hexagonal grid"),
        (SquareGrid(), spread_out, "square grid"),
        (HexGrid(), lambda: square()[1], "hexagonal grid"),
        (SquareGrid(), lambda: hexagonal()[1], "square grid"),
        (SquareGrid(), lambda: square()[1] @ [[1.0, 0.0], [0.5, 0.9]], "square grid"),
        (HexGrid(), lambda: square()[1] * [1.0, 1.4], "hexagonal grid"),
    ],
)
def test_cells_that_are_on_no_such_array(builder, cells, match, angle):
    with pytest.raises(InputError, match=match):
        builder(turned(cells(), angle))


def test_a_few_cells_off_the_array_are_said():
    _, pos = square(30, 30)
    pos = np.concatenate([pos, [[3.5, 3.5], [12.5, 7.5]]])
    with pytest.warns(StgraphWarning, match=r"^0.22% of the cells are off the square grid of the others"):
        near = SquareGrid()(pos)
    np.testing.assert_array_equal(adjacency(near)[:900, :900], adjacency(SquareGrid()(pos[:900])))


@pytest.mark.parametrize("make", [HexGrid, SquareGrid])
def test_senseless_rings(make):
    with pytest.raises(InputError, match="n_rings of at least 1, not 0"):
        make(0)


@pytest.mark.real
@pytest.mark.parametrize("name", ["dlpfc_151673", "dlpfc_151675"])
def test_real_visium(data_dir, name):
    adata = ad.read_h5ad(data_dir / "dlpfc" / f"{name}.h5ad")
    array = adata.obs[["array_row", "array_col"]].to_numpy(int)
    rings = rings_between("hexagonal", array)
    for n_rings in (1, 4):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = adjacency(HexGrid(n_rings)(adata.obsm["spatial"]))
        np.testing.assert_array_equal(found, (rings <= n_rings) & (rings > 0))
    with pytest.raises(InputError, match="square grid"):
        SquareGrid()(adata.obsm["spatial"])


@pytest.mark.real
@pytest.mark.parametrize("name", ["A1", "B1", "C1", "C2", "C3", "C4", "D1"])
def test_real_spatial_transcriptomics_array(data_dir, name):
    """Spots are printed a tenth of their spacing beside their place, and still are found on it."""
    adata = ad.read_h5ad(data_dir / "her2st" / f"her2st_{name}.h5ad")
    rings = rings_between("king", adata.obs[["array_x", "array_y"]].to_numpy(float).round())
    for n_rings in (1, 3):
        with warnings.catch_warnings():
            # Some sections have one to seven spots that are more than a quarter of the spacing off.
            warnings.simplefilter("ignore", StgraphWarning)
            found = adjacency(SquareGrid(n_rings)(adata.obsm["spatial"]))
        np.testing.assert_array_equal(found, (rings <= n_rings) & (rings > 0))
    with pytest.raises(InputError, match="hexagonal grid"):
        HexGrid()(adata.obsm["spatial"])


@pytest.mark.real
@pytest.mark.parametrize("size", ["008", "016"])
def test_real_visium_hd(data_dir, size):
    """A sample of one bin in a hundred of the array."""
    parquet = pytest.importorskip("pyarrow.parquet")
    folder = data_dir / "raw_vendor" / "visium_hd_seurat" / "binned_outputs" / f"square_{size}um"
    bins = parquet.read_table(folder / "spatial" / "tissue_positions.parquet").to_pandas()
    rings = rings_between("king", bins[["array_row", "array_col"]].to_numpy(int))
    found = adjacency(SquareGrid()(bins[["pxl_col_in_fullres", "pxl_row_in_fullres"]].to_numpy()))
    np.testing.assert_array_equal(found, (rings <= 1) & (rings > 0))


@pytest.mark.real
@pytest.mark.parametrize("file", ["starmap_mvc/starmap_mvc_BY3_1k", "breast_xenium_visium/xenium_breast_roi"])
def test_real_cells_are_on_no_array(data_dir, file):
    pos = ad.read_h5ad(data_dir / f"{file}.h5ad").obsm["spatial"]
    for builder in (HexGrid(), SquareGrid()):
        with pytest.raises(InputError, match="do not lie on"):
            builder(pos)
