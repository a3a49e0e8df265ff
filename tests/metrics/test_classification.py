import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef, roc_auc_score

from stgraph.errors import InputError
from stgraph.metrics.classification import classification_scores, confusion, macro_f1, predicted_classes


def a_case(seed: int, n_cells: int, n_classes: int, classes: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Truth among some classes, and rounded scores, so that many are equal."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(classes, size=n_cells)
    scores = rng.dirichlet(np.ones(n_classes), size=n_cells) + 0.3 * np.eye(n_classes)[truth]
    return truth, (scores / scores.sum(axis=1, keepdims=True)).round(2)


@given(
    seed=st.integers(0, 2**32 - 1),
    n_cells=st.integers(1, 60),
    n_classes=st.integers(2, 6),
    classes=st.sets(st.integers(0, 5), min_size=1),
)
@settings(deadline=None, max_examples=40)
def test_agrees_with_scikit_learn(seed, n_cells, n_classes, classes):
    truth, p = a_case(seed, n_cells, n_classes, sorted({c % n_classes for c in classes}))
    scores, found = classification_scores(truth, p), p.argmax(axis=1)
    assert scores["accuracy"] == pytest.approx(accuracy_score(truth, found))
    assert scores["macro_f1"] == pytest.approx(f1_score(truth, found, average="macro", zero_division=0))
    assert scores["weighted_f1"] == pytest.approx(f1_score(truth, found, average="weighted", zero_division=0))
    if len(np.unique(truth)) > 1:  # scikit-learn warns of a single label
        assert scores["mcc"] == pytest.approx(matthews_corrcoef(truth, found))
    assert macro_f1(truth, found) == pytest.approx(scores["macro_f1"])


def exact(p: np.ndarray) -> np.ndarray:
    return p / p.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("n_classes", [3, 7])
def test_auroc_is_that_of_scikit_learn_where_all_classes_are_there(n_classes):
    truth, p = a_case(0, 300, n_classes, list(range(n_classes)))
    p = exact(p)
    expected = roc_auc_score(truth, p, multi_class="ovr", average="macro")
    assert classification_scores(truth, p)["auroc"] == pytest.approx(expected)


def test_auroc_of_two_classes_is_the_binary_one():
    truth, p = a_case(1, 200, 2, [0, 1])
    # Scores whose first column is no mirror of the second: the second is taken.
    p[:, 0] = np.random.default_rng(0).uniform(size=200)
    assert classification_scores(truth, p)["auroc"] == pytest.approx(roc_auc_score(truth, p[:, 1]))


def test_auroc_where_classes_are_absent_is_the_mean_over_those_present():
    truth, p = a_case(2, 200, 6, [1, 3, 4])
    p[:, 3] = 0.0  # never trained on
    areas = [roc_auc_score(truth == k, p[:, k]) for k in (1, 3, 4)]
    assert areas[1] == 0.5
    assert classification_scores(truth, p)["auroc"] == pytest.approx(np.mean(areas))


def test_auroc_of_one_class_is_undefined_and_the_rest_is_not():
    scores = classification_scores([1, 1, 1], [[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    assert np.isnan(scores.pop("auroc"))
    assert scores == pytest.approx({"accuracy": 2 / 3, "macro_f1": 0.4, "weighted_f1": 0.8, "mcc": 0.0})


def test_mcc_is_zero_if_all_cells_are_taken_for_one_class():
    assert classification_scores([0, 1, 2], np.eye(3)[[1, 1, 1]])["mcc"] == 0.0


def test_a_perfect_prediction_scores_one_and_a_shuffled_one_chance():
    rng = np.random.default_rng(0)
    truth = rng.integers(5, size=5000)
    perfect = classification_scores(truth, np.eye(5)[truth])
    assert perfect == pytest.approx(dict.fromkeys(perfect, 1.0))
    shuffled = classification_scores(truth, np.eye(5)[rng.permutation(truth)])
    chance = {"accuracy": 0.2, "macro_f1": 0.2, "weighted_f1": 0.2, "mcc": 0.0, "auroc": 0.5}
    assert shuffled == pytest.approx(chance, abs=0.03)


def test_a_class_that_is_predicted_and_never_true_costs_macro_f1():
    assert macro_f1([0, 0, 1, 1], [0, 0, 1, 2]) == pytest.approx((1 + 2 / 3 + 0) / 3)
    # One that is neither, though it has a column, does not.
    assert classification_scores([0, 1], np.eye(4)[[0, 1]])["macro_f1"] == 1.0


def test_the_first_of_equally_probable_classes_is_predicted():
    assert predicted_classes([[0.1, 0.45, 0.45], [0.0, 0.0, 0.0]]).tolist() == [1, 0]
    assert predicted_classes([[0.1, 0.9]]).dtype == np.int64


def test_confusion_has_truth_in_rows():
    assert confusion(np.array([0, 0, 2]), np.array([1, 1, 2]), 3).tolist() == [[0, 2, 0], [0, 0, 0], [0, 0, 1]]


@pytest.mark.parametrize(
    ("truth", "p", "message"),
    [
        ([0, -1, -1], np.eye(3), "2 of 3 cells have a class that is none of 0 to 2 .the first is -1.: leave out"),
        ([0, 1, 3], np.eye(3), "1 of 3 cells have a class"),
        ([0, 1], np.eye(3), "2 truth for 3 cells"),
        ([0.0, 1.0, 2.0], np.eye(3), "truth as integer codes, not float64"),
        ([[0], [1], [2]], np.eye(3), r"truth of one number for each cell, not an array of shape \(3, 1\)"),
        ([0], [[np.nan, 1.0]], "1 of 1 rows of probabilities hold NaN or infinity .the first is row 0."),
        ([0], [0.5, 0.5], r"probabilities of shape \(any, any\), cells in rows, not \(2,\)"),
        ([], np.empty((0, 2)), r"probabilities of shape \(any, any\), cells in rows, not \(0, 2\)"),
    ],
)
def test_what_cannot_be_scored_is_refused(truth, p, message):
    with pytest.raises(InputError, match=message):
        classification_scores(truth, p)


@pytest.mark.parametrize(("truth", "found"), [([0, -1], [0, 1]), ([0, 1], [0, -1])])
def test_macro_f1_refuses_cells_without_a_class(truth, found):
    with pytest.raises(InputError, match="1 of 2 cells have a class that is none of 0 to 1"):
        macro_f1(truth, found)
