import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from stgraph.errors import InputError
from stgraph.plot.training import loss_curves, loss_names


def _history(n, **extra):
    return [
        {
            "step": i + 1,
            "epoch": i // 10,
            "lr": 1e-3,
            "cells_per_second": 5e4,
            "masked_cell": 1.0 + i,
            "loss": 2.0 + i,
        }
        | extra
        for i in range(n)
    ]


def _titles(figure):
    FigureCanvasAgg(figure).draw()
    return [ax.get_title(loc="left") for ax in figure.axes]


def test_a_panel_for_each_loss_and_none_for_the_rest():
    figure = loss_curves(_history(30, distance_recovery=0.5, my_new_term=np.float32(3), comment="x"))
    assert _titles(figure) == ["loss", "masked cell", "distance recovery", "my new term"]


def test_points_are_the_history():
    ax = loss_curves(_history(30)).axes[0]
    points, median = ax.lines
    np.testing.assert_array_equal(points.get_xdata(), np.arange(1, 31))
    np.testing.assert_array_equal(points.get_ydata(), np.arange(30) + 2.0)
    assert len(median.get_xdata()) == 30
    # The last value of the running median over five steps, of which three are left at the end.
    assert ax.get_title(loc="right") == "30"


def test_a_spike_does_not_move_the_median():
    history = _history(50)
    for row in history:
        row["loss"] = 1.0
    history[25]["loss"] = 1e6
    ax = loss_curves(history).axes[0]
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), 1.0)


def test_a_hundredfold_fall_is_shown_on_a_logarithmic_axis():
    fall = [{"step": i, "loss": 10.0 ** (-i / 20)} for i in range(100)]
    assert loss_curves(fall).axes[0].get_yscale() == "log"
    assert loss_curves(_history(30)).axes[0].get_yscale() == "linear"
    _titles(loss_curves(fall))


def test_one_step_shows_a_dot():
    figure = loss_curves(_history(1))
    assert _titles(figure) == ["loss", "masked cell"]
    assert figure.axes[0].lines[1].get_marker() == "o"


@pytest.mark.parametrize("n_terms", range(1, 8))
def test_any_number_of_terms(n_terms):
    history = [{f"term_{i}": 1.0 for i in range(n_terms)}]
    assert len(_titles(loss_curves(history))) == n_terms


def test_gaps_and_values_that_are_not_finite_are_left_out():
    history = [{"loss": 1.0}, {"loss": float("nan")}, {"late": 2.0}, {"loss": 4.0, "late": 3.0}]
    loss, late = loss_curves(history).axes
    np.testing.assert_array_equal(loss.lines[0].get_xdata(), [0, 3])
    np.testing.assert_array_equal(late.lines[0].get_ydata(), [2.0, 3.0])


def test_names_are_taken_literally():
    assert _titles(loss_curves([{"$a_{": 1.0}])) == ["$a {"]


@pytest.mark.parametrize("history", [[], [{"step": 1, "lr": 0.1}], [{"loss": float("nan")}]])
def test_nothing_to_show(history):
    assert loss_names(history) == []
    with pytest.raises(InputError, match="no loss"):
        loss_curves(history)
