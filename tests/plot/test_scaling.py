import numpy as np
import pandas as pd
import pytest

from stgraph.errors import InputError
from stgraph.plot.scaling import cost_plot, scaling_plot


@pytest.fixture
def points():
    rows = [
        {"panel": panel, "method": method, "k": k, "value": 0.01 * k + up, "low": 0.005 * k, "high": 0.02 * k + up}
        for panel, up in (("region", 0.1), ("niche", 0.2))
        for method in ("zeta", "alpha")
        for k in (64, 8, 16)
    ]
    return pd.DataFrame(rows)


def drawn(ax, width=1.3):
    return [line for line in ax.lines if line.get_linewidth() == width]


def test_a_line_for_each_method_in_the_order_of_the_sweep(points):
    figure = scaling_plot(points, x="k", lines=["method"])
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["region", "niche"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["zeta", "alpha"]
    for ax, up in zip(figure.axes, (0.1, 0.2), strict=True):
        assert [text.get_text() for text in ax.get_xticklabels()] == ["8", "16", "64"]
        assert ax.get_xscale() == "log"
        for line in drawn(ax):
            np.testing.assert_allclose(line.get_ydata(), 0.01 * np.array([8, 16, 64]) + up)
            np.testing.assert_allclose(line.get_xdata(), [8, 16, 64], rtol=0.05)  # beside each other
    first, second = drawn(figure.axes[0])
    assert first.get_color() != second.get_color()


def test_intervals_are_drawn_where_there_are_some(points):
    points.loc[points["method"] == "alpha", ["low", "high"]] = np.nan
    figure = scaling_plot(points[points["panel"] == "region"], x="k", lines=["method"])
    heights = [np.ptp(segment[:, 1]) for bars in figure.axes[0].collections for segment in bars.get_segments()]
    np.testing.assert_allclose(sorted(heights), [0, 0, 0, *sorted(0.015 * np.array([8, 16, 64]) + 0.1)], atol=1e-9)


def test_a_wide_interval_does_not_flatten_the_scores(points):
    points.loc[0, ["low", "high"]] = -50.0, 50.0
    low, high = scaling_plot(points, x="k", lines=["method"]).axes[0].get_ylim()
    assert -0.5 < low < 0.2
    assert 0.7 < high < 1.5


def test_numbers_in_a_legend_say_what_they_are(points):
    figure = scaling_plot(points.assign(size=12_300_000), x="k", lines=["method", "size"])
    assert figure.legends[0].get_texts()[0].get_text() == "zeta, size=12.3M"


def test_texts_stand_in_their_order(points):
    points["size"] = points["k"].map({8: "small", 16: "medium", 64: "large"})
    ax = scaling_plot(points.sort_values("k"), x="size", lines=["method"]).axes[0]
    assert [text.get_text() for text in ax.get_xticklabels()] == ["small", "medium", "large"]


def test_what_has_no_such_setting_is_a_line_across(points):
    beside = pd.DataFrame({"panel": ["region", "niche"], "model": "pca", "value": [0.25, 0.75]})
    figure = scaling_plot(points, x="k", lines=["method"], beside=beside)
    for ax, value in zip(figure.axes, (0.25, 0.75), strict=True):
        assert drawn(ax, width=1)[0].get_ydata() == [value, value]
        assert ax.get_ylim()[0] < value < ax.get_ylim()[1]
    assert figure.legends[0].get_texts()[-1].get_text() == "pca"


def test_single_slices_are_dots_of_their_line(points):
    slices = pd.DataFrame({"panel": "region", "method": ["zeta", "alpha", "alpha"], "k": 8, "value": [0.1, 0.2, 0.3]})
    dots = [
        line
        for line in scaling_plot(points, x="k", lines=["method"], slices=slices).axes[0].lines
        if line.get_marker() == "."
    ]
    assert [line.get_ydata().tolist() for line in dots] == [[0.1], [0.2, 0.3]]


def test_costs(points):
    costs = points[points["panel"] == "region"].assign(
        train_seconds_per_1000=lambda rows: rows["k"] / 10,
        describe_seconds_per_1000=np.nan,
        train_bytes=lambda rows: rows["k"] * 1e6,
    )
    figure = cost_plot(costs, x="k", lines=["method"])
    assert [ax.get_ylabel() for ax in figure.axes] == ["training, seconds for 1000 cells", "memory of training, MB"]
    assert [ax.get_yscale() for ax in figure.axes] == ["log", "log"]
    np.testing.assert_allclose(drawn(figure.axes[1])[0].get_ydata(), [8, 16, 64])


def test_nothing_to_draw(points):
    with pytest.raises(InputError, match="no scores to draw against 'k'"):
        scaling_plot(points.assign(value=np.nan), x="k")
    empty = points.assign(train_seconds_per_1000=0.0, describe_seconds_per_1000=np.nan, train_bytes=np.nan)
    with pytest.raises(InputError, match="No cost was measured"):
        cost_plot(empty, x="k")


def test_nullable_numbers_are_numbers(points):
    nullable = points.assign(k=points["k"].astype("Int64"))
    assert [t.get_text() for t in scaling_plot(nullable, x="k", lines=["method"]).axes[0].get_xticklabels()] == [
        "8",
        "16",
        "64",
    ]


def said(figure):
    return figure._supxlabel.get_text()


def test_only_what_is_drawn_is_said(points):
    points = points.assign(low=points["value"] - 0.01, high=points["value"] + 0.01)
    assert said(scaling_plot(points, x="k", lines=["method"], note="bars")) == "bars"
    slices = pd.DataFrame({"panel": "region", "method": ["zeta"], "k": 8, "value": [0.2]})
    dotted = scaling_plot(points, x="k", lines=["method"], slices=slices, note="bars")
    assert said(dotted) == "bars; dots: single slices"
    points.loc[0, ["low", "high"]] = -50.0, 50.0
    assert said(scaling_plot(points, x="k", lines=["method"], note="bars")) == "bars; cut at the border"


def test_lines_across_are_told_apart_without_colour(points):
    beside = pd.DataFrame({"panel": "region", "model": list("abcd"), "value": 0.3})
    across = drawn(scaling_plot(points, x="k", lines=["method"], beside=beside).axes[0], width=1)
    assert len({str(line._unscaled_dash_pattern) for line in across}) == 4


def test_four_panels_are_two_and_two_with_their_metric(points):
    four = pd.concat([points.assign(panel=f"task {i}", metric="macro_f1") for i in range(4)])
    axes = scaling_plot(four, x="k", lines=["method"]).axes
    assert axes[0].get_subplotspec().get_gridspec().get_geometry() == (2, 2)
    assert {ax.get_ylabel() for ax in axes} == {"macro_f1"}
