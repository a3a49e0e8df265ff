import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from stgraph.errors import InputError
from stgraph.plot.palette import MISSING
from stgraph.plot.spatial import domain_map, figure_size, graph_histograms

RED, BLUE = "#ff0000", "#0000ff"


def _pixels(figure):
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].astype(int)


def _is(image, color):
    return np.abs(image - np.round(np.array(to_rgb(color)) * 255)).max(axis=2) <= 2


def _grid(n=20, spacing=100.0):
    x, y = np.meshgrid(np.arange(n), np.arange(n))
    return np.c_[x.ravel(), y.ravel()] * spacing


def test_y_points_down_and_x_right():
    pos = _grid()
    labels = np.where(pos[:, 1] < 950, "top", "bottom")
    labels[(pos[:, 0] > 1500) & (pos[:, 1] < 400)] = ""
    image = _pixels(domain_map(pos, labels, colors={"top": RED, "bottom": BLUE}, legend=False))
    red, blue, grey = (np.argwhere(_is(image, color)).mean(axis=0) for color in (RED, BLUE, MISSING))
    assert red[0] < blue[0]
    assert grey[0] < blue[0]
    assert grey[1] > red[1]


@pytest.mark.parametrize("seed", [None, 0])
@pytest.mark.parametrize("n", [10, 60])
def test_tissue_looks_filled(n, seed):
    pos = _grid(n)
    if seed is not None:
        pos = np.random.default_rng(seed).uniform(0, 100 * n, size=pos.shape)
    figure = Figure(figsize=(4, 4))
    domain_map(pos, ["a"] * len(pos), colors={"a": RED}, ax=figure.add_axes((0, 0, 1, 1)), legend=False)
    image = _pixels(figure)
    rows, columns = np.nonzero(_is(image, RED))
    box = image[rows.min() : rows.max(), columns.min() : columns.max()]
    inked = (box[..., 1] < 128).mean()
    low, high = (0.8, 1.0) if seed is None else (0.5, 0.85)
    assert low < inked < high


def test_aspect_is_equal():
    pos = _grid() * [2.0, 1.0]
    image = _pixels(domain_map(pos, ["a"] * len(pos), colors={"a": RED}, legend=False))
    rows, columns = np.nonzero(_is(image, RED))
    assert np.ptp(columns) / np.ptp(rows) == pytest.approx(2.0, rel=0.06)


def test_scale_bar_is_as_long_as_it_says():
    ax = domain_map(_grid(), ["a"] * 400, unit="um").axes[0]
    (bar,) = ax.lines
    assert np.ptp(bar.get_xdata()) == 200
    assert [text.get_text() for text in ax.texts] == ["200 µm"]
    assert bar.get_ydata()[0] > 1900
    ax = domain_map(_grid(spacing=500.0), ["a"] * 400, unit="um").axes[0]
    assert [text.get_text() for text in ax.texts] == ["2 mm"]


def test_no_scale_bar_without_a_unit():
    ax = domain_map(_grid(), ["a"] * 400, unit="unknown").axes[0]
    assert len(ax.lines) == 0
    assert [text.get_text() for text in ax.texts] == ["unit unknown"]


@pytest.mark.parametrize(
    "pos",
    [
        [[5.0, 5.0]],
        [[0.0, 0.0], [1.0, 0.0]],
        [[1.0, 1.0]] * 6,
        np.c_[np.arange(10.0), np.zeros(10)],
        np.c_[np.zeros(10), np.arange(10.0)],
        np.random.default_rng(0).normal(size=(10, 2)) * 1e-6,
        np.random.default_rng(0).normal(size=(10, 2)) + 1e6,
    ],
)
@pytest.mark.parametrize("unit", ["um", "unknown"])
def test_tiny_and_thin_slices(pos, unit):
    image = _pixels(domain_map(pos, ["a"] * len(pos), colors={"a": RED}, unit=unit))
    assert _is(image, RED).sum() > 20


def test_two_hundred_thousand_cells():
    pos = np.random.default_rng(0).uniform(size=(200_000, 2)) * 1e4
    image = _pixels(domain_map(pos, (pos[:, 0] // 1000).astype(int), unit="um"))
    assert (image.min(axis=2) < 250).mean() > 0.4


def test_labels_are_taken_literally():
    labels = ["$x_{", "_hidden", "<b>", ""]
    ax = domain_map(_grid(2), labels, title="$y^{").axes[0]
    _pixels(ax.figure)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["$x_{", "<b>", "_hidden", "no label"]


def test_a_label_has_one_colour_in_every_slice():
    colors = {"0": RED, "7": BLUE}
    for labels in (["7"] * 400, ["0"] * 200 + ["7"] * 200):
        image = _pixels(domain_map(_grid(), labels, colors=colors, legend=False))
        assert _is(image, BLUE).any()
        assert _is(image, RED).any() == ("0" in labels)


def test_sixty_domains_fit():
    figure = domain_map(_grid(), [str(i % 60) for i in range(400)])
    image = _pixels(figure)
    legend = figure.axes[0].get_legend()
    assert len(legend.get_texts()) == 60
    box = legend.get_window_extent()
    assert box.x1 <= image.shape[1] + 1
    assert box.y0 >= -1


def test_all_labels_missing():
    image = _pixels(domain_map(_grid(), [None] * 400))
    assert _is(image, MISSING).any()


def test_given_axes_are_drawn_into():
    figure = Figure()
    ax = figure.add_subplot()
    assert domain_map(_grid(), ["a"] * 400, ax=ax) is figure
    assert ax.collections


@pytest.mark.parametrize(
    ("pos", "labels", "message"),
    [
        (np.zeros((0, 2)), [], "N > 0"),
        (np.zeros((2, 3)), ["a", "b"], "positions"),
        (np.zeros((2, 2)), ["a"], "N labels"),
        ([[0.0, np.nan]], ["a"], "finite"),
    ],
)
def test_unusable_input(pos, labels, message):
    with pytest.raises(InputError, match=message):
        domain_map(pos, labels)


def test_figure_follows_the_tissue_within_bounds():
    tall, wide = _grid() * [1.0, 10.0], _grid() * [10.0, 1.0]
    assert figure_size(tall)[1] > figure_size(_grid())[1] > figure_size(wide)[1]
    assert figure_size(tall)[1] <= 1.2 * figure_size(tall)[0]


def test_histograms_count_everything():
    degree = [0, 3, 3, 6]
    lengths = np.r_[np.full(997, 100.0) + np.linspace(0, 1e-12, 997), 900.0, np.nan]
    left, right = graph_histograms(degree, lengths, unit="um").axes
    assert [bar.get_height() for bar in left.patches] == [1, 0, 0, 2, 0, 0, 1]
    assert sum(bar.get_height() for bar in right.patches) == 997
    assert right.get_title(loc="right") == "0.10% longer, up to 900"
    assert right.get_xlabel() == "edge length (µm)"


def test_histograms_of_odd_graphs():
    (ax,) = graph_histograms(np.arange(1000), None).axes
    assert len(ax.patches) <= 41
    assert sum(bar.get_height() for bar in ax.patches) == 1000
    (ax,) = graph_histograms([], np.zeros(5)).axes
    assert sum(bar.get_height() for bar in ax.patches) == 5
    with pytest.raises(InputError, match="neither"):
        graph_histograms(None, [])
