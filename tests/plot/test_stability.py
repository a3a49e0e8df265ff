import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from stgraph.errors import InputError
from stgraph.plot.stability import stability_curve


@pytest.fixture
def table():
    n = np.arange(2, 7)
    agreement = np.array([0.9, 0.8, 0.95, 0.7, 0.6])
    reference = np.full(5, 0.5)
    return pd.DataFrame(
        {
            "n_domains": n,
            "agreement": agreement,
            "low": agreement - 0.1,
            "high": agreement + 0.05,
            "reference": reference,
            "corrected": (agreement - reference) / (1 - reference),
            "next_agreement": [0.8, 0.7, 0.8, 0.6, np.nan],
        }
    )


def test_points_are_the_table(table):
    figure = stability_curve(table.sample(frac=1, random_state=0), suggested=4, annotated=6, title="$a_")
    FigureCanvasAgg(figure).draw()
    left, right = figure.axes
    lines = {line.get_label(): line for line in left.lines}
    np.testing.assert_array_equal(lines["two subsamples"].get_xdata(), table["n_domains"])
    np.testing.assert_array_equal(lines["two subsamples"].get_ydata(), table["agreement"])
    np.testing.assert_array_equal(lines["data without clusters"].get_ydata(), table["reference"])
    np.testing.assert_array_equal(lines["with one more domain"].get_xdata(), table["n_domains"] + 0.5)
    np.testing.assert_array_equal(right.lines[0].get_ydata(), table["corrected"])
    assert [text.get_text() for text in right.get_legend().get_texts()] == ["suggested: 4", "annotated: 6"]


def test_no_marks_no_legend(table):
    figure = stability_curve(table)
    FigureCanvasAgg(figure).draw()
    assert figure.axes[1].get_legend() is None
    assert len(stability_curve(table.iloc[:1]).axes) == 2


def test_bad_tables(table):
    with pytest.raises(InputError, match="rows and the columns n_domains"):
        stability_curve(table.iloc[:0])
    with pytest.raises(InputError, match="columns"):
        stability_curve(table.drop(columns="low"))
