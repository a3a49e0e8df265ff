import numpy as np
import pytest
import scipy.sparse as sp
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from stgraph.errors import InputError
from stgraph.graph.builders import KNN
from stgraph.graph.slice_graph import SliceGraph
from stgraph.partition.base import Partition
from stgraph.partition.halo import part_with_halo
from stgraph.partition.metis import Metis
from stgraph.partition.quality import PartitionQuality, partition_quality
from stgraph.partition.spatial import CoordinateBisection
from stgraph.plot.partition import part_shades, plot_partition, plot_partition_quality


@pytest.fixture(scope="module")
def graph():
    return graph_at(np.random.default_rng(0).uniform(0, 1000, (3000, 2)))


def graph_at(pos, near=None):
    near = KNN(6)(pos) if near is None else near
    return SliceGraph("s", np.zeros((len(pos), 1), np.float32), pos, near, None, 1.0, "um")


def drawn(figure):
    """Colour of each cell, in the order in which cells are drawn."""
    return figure.axes[0].collections[0].get_facecolors()[:, :3]


def pixels(figure):
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].astype(int)


def test_parts_that_touch_differ(graph):
    partition = Metis(40)(graph)
    color = drawn(plot_partition(graph, partition))
    row = np.repeat(np.arange(len(graph)), np.diff(graph.near.indptr))
    one, other = partition.membership[row], partition.membership[graph.near.indices]
    assert (color[row] != color[graph.near.indices]).any(axis=1)[one != other].all()
    for part in range(partition.num_parts):
        assert len(np.unique(color[partition.cells(part)], axis=0)) == 1


def test_shades_are_few_and_all_used(graph):
    shades = part_shades(graph, CoordinateBisection(40)(graph))
    assert len(shades) == 75
    count = np.bincount(shades)
    assert len(count) == 8
    assert np.ptp(count) <= 3


def test_shades_of_a_directed_graph():
    """One edge, which only one of the two cells has."""
    near = sp.csr_matrix((np.ones(1), [0], [0, 0, 1]), shape=(2, 2))
    shades = part_shades(graph_at(np.eye(2), near), Partition.from_membership(np.array([0, 1])))
    assert shades[0] != shades[1]


def test_parts_that_touch_in_one_direction_differ():
    n = 60
    rng = np.random.default_rng(0)
    near = sp.csr_matrix(np.triu(rng.random((n, n)) < 0.12, k=1).astype(float))
    shades = part_shades(graph_at(rng.random((n, 2)), near), Partition(np.arange(n), n))
    row, col = near.nonzero()
    assert (shades[row] != shades[col]).all()


def test_more_neighbours_than_shades():
    """Twelve parts, each of which touches every other."""
    n = 12
    near = sp.csr_matrix(np.ones((n, n)) - np.eye(n))
    graph = graph_at(np.random.default_rng(0).uniform(size=(n, 2)), near)
    partition = Partition.from_membership(np.arange(n))
    assert sorted(part_shades(graph, partition)) == list(range(n))
    assert len(np.unique(drawn(plot_partition(graph, partition)), axis=0)) == n


def test_without_edges_the_nearest_cells_count():
    pos = np.arange(40.0)[:, None] * [1.0, 0.0]
    graph = graph_at(pos, sp.csr_matrix((40, 40)))
    shades = part_shades(graph, CoordinateBisection(10)(graph))
    assert (np.diff(shades) != 0).all()
    one = graph_at(pos[:1], sp.csr_matrix((1, 1)))
    assert part_shades(one, CoordinateBisection(10)(one)).tolist() == [0]


@pytest.mark.parametrize("num_hops", [0, 1, 3])
def test_a_part_and_its_halo(graph, num_hops):
    partition = CoordinateBisection(200)(graph)
    figure = plot_partition(graph, partition, part=3, num_hops=num_hops)
    shown = part_with_halo(graph, partition.cells(3), num_hops)
    color = drawn(figure)
    legend = dict(
        zip(
            [text.get_text() for text in figure.axes[0].get_legend().get_texts()],
            [line.get_color() for line in figure.axes[0].get_legend().get_lines()],
            strict=True,
        )
    )
    names = ["part 3"] + [f"halo, {num_hops} hop{'' if num_hops == 1 else 's'}"] * (num_hops > 0)
    assert list(legend) == names
    own = (color == to_rgb(legend["part 3"])).all(axis=1)
    np.testing.assert_array_equal(np.flatnonzero(own), shown.cells[shown.owned])
    if num_hops:
        halo = (color == to_rgb(legend[names[1]])).all(axis=1)
        np.testing.assert_array_equal(np.flatnonzero(halo), shown.cells[shown.context])
    assert color[np.setdiff1d(np.arange(len(graph)), shown.cells)].min() > 0.6  # pale


def test_title_and_axes(graph):
    figure = Figure()
    ax, other = figure.subplots(1, 2)
    assert plot_partition(graph, CoordinateBisection(200)(graph), ax=other, part=0, num_hops=1) is figure
    assert other.get_title(loc="left") == "15 parts of 200 cells"
    assert other.get_legend() is not None
    assert not ax.collections
    assert ax.get_legend() is None
    plot_partition(graph, CoordinateBisection(10_000)(graph), ax=ax)
    assert ax.get_title(loc="left") == "1 part of 3,000 cells"
    plot_partition(graph, Partition.from_membership(np.arange(3000) > 2998), ax=ax)
    assert ax.get_title(loc="left") == "2 parts of 1 to 2,999 cells"
    plot_partition(graph, CoordinateBisection(200)(graph), ax=ax, title="$x_{")
    assert pixels(figure).min() < 255


def test_unusable_input(graph):
    partition = CoordinateBisection(200)(graph)
    with pytest.raises(InputError, match="one of 3 cells, the graph has 3000"):
        plot_partition(graph, Partition.from_membership(np.arange(3)))
    for part in (-1, 15):
        with pytest.raises(InputError, match=f"parts 0 to 14, not {part}"):
            plot_partition(graph, partition, part=part)
    with pytest.raises(InputError, match="no partition quality"):
        plot_partition_quality({})


def test_qualities_side_by_side(graph):
    qualities = {
        "$a_{": partition_quality(graph, CoordinateBisection(200)(graph)),
        "_b": partition_quality(graph, Partition.from_membership(np.arange(3000) % 3 == 0)),
    }
    figure = plot_partition_quality(qualities)
    image = pixels(figure)
    cut, boundary, halo, balance, sizes, pieces = figure.axes
    assert [text.get_text() for text in cut.get_yticklabels()] == ["$a_{", "_b"]
    for ax, of in (
        (cut, "cut_share"),
        (boundary, "boundary_share"),
        (halo, "halo_share"),
        (balance, "balance"),
        (pieces, "disconnected_parts"),
    ):
        ends = [bar.get_x() + bar.get_width() for bar in ax.patches]
        assert ends == pytest.approx([getattr(quality, of) for quality in qualities.values()])
    assert [text.get_text() for text in balance.texts] == ["1.00", "1.33"]
    assert [text.get_text() for text in sizes.texts] == ["200 – 200 – 200", "1,000 – 1,500 – 2,000"]
    for ax in figure.axes:
        for text in ax.texts:
            box = text.get_window_extent()
            assert box.x1 <= min(ax.get_window_extent().x1 + 8, image.shape[1])


def test_qualities_of_a_single_part():
    pixels(plot_partition_quality({"one": PartitionQuality(1, 1, 1.0, 1, 1.0, 0, 0.0, 0.0, 0.0, 0)}))
