import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

from stgraph.tasks.linear_start import Linear, best_of, linear_classifiers, linear_regressors


def clouds(classes, n=40):
    rng = np.random.default_rng(0)
    y = np.repeat(classes, n)
    return rng.normal(rng.normal(size=(max(classes) + 1, 5))[y], [1, 1, 1, 1, 50]), y


def softmax(x):
    x = np.exp(x - x.max(axis=1, keepdims=True))
    return x / x.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("classes", [[0, 1], [0, 1, 2, 3]])
def test_probabilities_are_those_of_scikit_learn(classes):
    x, y = clouds(classes)
    heads = [
        LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"),
        LogisticRegression(C=0.01, max_iter=300),
        LogisticRegression(C=0.1, max_iter=300),
    ]
    z = StandardScaler().fit_transform(x)
    for ours, theirs in zip(linear_classifiers(x, y, len(classes)), heads, strict=True):
        np.testing.assert_allclose(softmax(ours(x)), theirs.fit(z, y).predict_proba(z), atol=1e-6)


def test_a_class_that_was_not_seen_has_next_to_no_chance():
    x, y = clouds([0, 2, 3])
    far = np.concatenate([x, x * 1000, -x * 1000])
    for head in linear_classifiers(x, y, 6):
        assert head(far).shape == (3 * len(x), 6)
        assert set(head(far).argmax(axis=1)) <= {0, 2, 3}
        assert softmax(head(x))[:, [1, 4, 5]].max() < 1e-3


def test_one_class_or_one_cell_each():
    x, y = clouds([2])
    [head] = linear_classifiers(x, y, 4)
    assert set(head(x).argmax(axis=1)) == {2}
    x, y = clouds([0, 1, 2], n=1)
    heads = linear_classifiers(x, y, 3)
    assert len(heads) == 2
    assert all(np.isfinite(head(x)).all() for head in heads)


def test_balanced_classes_lift_the_rare_one():
    x, y = clouds([0, 1])
    few = np.arange(len(y)) < 46
    for plain, balanced in zip(
        linear_classifiers(x[few], y[few], 2), linear_classifiers(x[few], y[few], 2, balanced=True), strict=True
    ):
        assert softmax(balanced(x))[:, 1].mean() > softmax(plain(x))[:, 1].mean() + 0.05


@pytest.mark.parametrize("width", [1, 3])
def test_values(width):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 5)) * [1, 1, 1, 1, 50]
    y = x @ rng.normal(size=(5, width)) + rng.normal(size=(60, width))
    z = StandardScaler().fit_transform(x)
    for ours, alpha in zip(linear_regressors(x, y), (1.0, 30.0, 1000.0), strict=True):
        np.testing.assert_allclose(ours(x), Ridge(alpha=alpha).fit(z, y).predict(z).reshape(60, width), atol=1e-8)


def test_the_best():
    heads = [Linear(np.zeros((1, 1)), np.array([bias])) for bias in (2.0, 1.0, 1.0)]
    assert best_of(heads, lambda head: float(head.bias[0])) is heads[1]
    assert best_of(heads, None) is heads[0]
