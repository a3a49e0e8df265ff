import numpy as np
import pandas as pd
import pytest

from stgraph.errors import InputError
from stgraph.plot.benchmark import critical_difference_plot, prediction_maps, score_heatmap


def texts(figure):
    return [text for ax in figure.axes for text in ax.texts]


def test_the_best_of_a_row_is_bold():
    scores = pd.DataFrame({"pca": [0.5, 0.2], "ours": [0.6, 0.3], "other": [np.nan, 0.1]}, index=["f1", "jsd"])
    found = texts(score_heatmap(scores, lower_is_better=["jsd"]))
    assert [text.get_text() for text in found] == [".50", ".60", ".20", ".30", ".10"]
    assert [text.get_text() for text in found if text.get_fontweight() == "bold"] == [".60", ".10"]


def test_numbers_keep_their_sign():
    assert [t.get_text() for t in texts(score_heatmap(pd.DataFrame({"a": [-0.25, 1.5, 1.0]})))] == [
        "-.25",
        "1.50",
        "1.00",
    ]


def test_methods_that_are_not_told_apart_share_a_bar():
    figure = critical_difference_plot({"a": 1.0, "b": 1.5, "c": 3.5}, distance=1.0)
    bars = [line for line in figure.axes[0].lines if line.get_linewidth() == 3]
    assert len(bars) == 1
    low, high = bars[0].get_xdata()
    assert low < 1.0
    assert 1.5 < high < 3.5
    assert "more than all ranks" in " ".join(
        text.get_text() for text in texts(critical_difference_plot({"a": 1.0, "b": 2.0}, distance=3.0))
    )


def test_maps_say_the_share_that_is_right():
    cells = pd.DataFrame(
        {"x": [0.0, 1, 2, 3], "y": 0.0, "truth": ["a", "b", None, "a"], "predicted": ["a", "a", "b", None]}
    )
    titles = [ax.get_title(loc="left") + ax.get_title() for ax in prediction_maps(cells).axes]
    assert any("50% right" in title for title in titles)


def test_nothing_to_draw():
    with pytest.raises(InputError, match="no scores"):
        score_heatmap(pd.DataFrame())
    with pytest.raises(InputError, match="at least two"):
        critical_difference_plot({"a": 1.0}, distance=1.0)
