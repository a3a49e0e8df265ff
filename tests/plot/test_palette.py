import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from stgraph.errors import InputError
from stgraph.plot.palette import (
    MISSING,
    PALETTE,
    as_labels,
    label_colors,
    match_colors,
    palette,
    point_colors,
    sort_labels,
)

# Machado, Oliveira, Fernandes 2009, severity 1, for linear RGB.
EYES = {
    "normal": np.eye(3),
    "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
}


def _oklab(colors, eye):
    rgb = np.array([to_rgb(color) for color in colors])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(linear @ np.array(EYES[eye]).T, 0, 1)
    cones = np.cbrt(linear @ np.array([[0.4122, 0.5363, 0.0514], [0.2119, 0.6807, 0.1074], [0.0883, 0.2817, 0.6300]]).T)
    return cones @ np.array([[0.2105, 0.7936, -0.0041], [1.9780, -2.4286, 0.4506], [0.0259, 0.7828, -0.8087]]).T


def _closest(colors, eye):
    lab = _oklab(colors, eye)
    gaps = np.linalg.norm(lab[:, None] - lab[None], axis=2)
    return gaps[np.triu_indices(len(colors), 1)].min()


@pytest.mark.parametrize(
    ("eye", "n", "least"), [("normal", 30, 0.08), ("deuteranopia", 12, 0.07), ("protanopia", 12, 0.05)]
)
def test_colours_are_told_apart(eye, n, least):
    assert _closest(palette(n), eye) > least


def test_missing_grey_is_no_label_colour():
    assert _closest([MISSING, *PALETTE], "normal") > 0.05


def test_palette_is_a_prefix_of_itself_and_does_not_repeat_up_to_ninety():
    assert palette(7) == palette(30)[:7] == list(PALETTE[:7])
    assert len(set(palette(90))) == 90
    assert len(palette(200)) == 200
    assert palette(0) == []


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["10", "9", "1", "2"], ["1", "2", "9", "10"]),
        (["L10", "WM", "L2", "L1"], ["L1", "L2", "L10", "WM"]),
        (["a", "", None, float("nan"), "a"], ["a"]),
        (["01", "1", "1a", "a1"], ["01", "1", "1a", "a1"]),
        (["9" * 5000, "1" + "0" * 5000], ["9" * 5000, "1" + "0" * 5000]),
        ([10, 2], ["2", "10"]),
        ([], []),
    ],
)
def test_labels_sort_by_number(labels, expected):
    assert sort_labels(labels) == expected
    assert sort_labels(labels[::-1]) == expected


def test_colour_of_a_label_does_not_depend_on_the_order_of_cells():
    one, other = ["2", "10", "0"], ["10", "0", "0", "2", ""]
    assert label_colors(one) == label_colors(other)
    assert list(label_colors(one)) == ["0", "2", "10"]


def test_as_labels_takes_what_obs_columns_hold():
    categories = pd.Categorical(["b", None, "a"])
    assert as_labels(categories).tolist() == ["b", "", "a"]
    assert as_labels(pd.Series([1, 2])).tolist() == ["1", "2"]
    assert as_labels(np.array(["x", ""])).tolist() == ["x", ""]
    assert as_labels(x for x in "ab").tolist() == ["a", "b"]
    with pytest.raises(InputError, match="sequence"):
        as_labels("ab")


def test_matched_labels_share_colours_and_the_rest_get_free_ones():
    domains = ["0"] * 5 + ["1"] * 5
    labels = ["wm"] * 5 + ["gm"] * 3 + ["x", ""]
    colors = label_colors(domains)
    matched = match_colors(labels, domains, colors)
    assert matched["wm"] == colors["0"]
    assert matched["gm"] == colors["1"]
    assert matched["x"] not in colors.values()


def test_nothing_to_match():
    assert match_colors(["", ""], ["0", "1"], label_colors(["0", "1"])) == {}
    assert match_colors(["a"], [""], {}) == {"a": palette(1)[0]}


def test_many_matched_labels_stay_distinct():
    labels = [str(i) for i in range(60)]
    matched = match_colors(labels, [str(i % 7) for i in range(60)], label_colors(range(7)))
    assert len(set(matched.values())) == 60


def test_point_colours():
    rgb = point_colors(np.array(["b", "", "a"]), {"a": "#ff0000", "b": "#0000ff"})
    np.testing.assert_allclose(rgb, [[0, 0, 1], to_rgb(MISSING), [1, 0, 0]])
    with pytest.raises(InputError, match="'c'"):
        point_colors(np.array(["c"]), {})
