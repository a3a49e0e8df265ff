"""How well classes were told."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from stgraph.errors import InputError
from stgraph.metrics.arguments import checked_codes, checked_matrix


def classification_scores(truth: ArrayLike, probabilities: ArrayLike) -> dict[str, float]:
    """Accuracy, F1, Matthews correlation and area under the ROC curve.

    Parameters
    ----------
    truth
        (N,) integer codes of the classes, 0 to K - 1. Cells without a label have to be
        left out.
    probabilities
        (N, K) probability, or any score that grows with it, of each class. A class that
        was never trained on has a column of zeros.

    Returns
    -------
    dict
        ``accuracy``, share of cells whose most probable class (`predicted_classes`) is
        the true one.

        ``macro_f1`` and ``weighted_f1``, as scikit-learn computes them: the F1 of a
        class is 2 TP / (2 TP + FP + FN); the mean is over the classes that occur in
        truth or prediction, or weighted by the number of cells of the class in truth.
        A class that is predicted and never true, or true and never predicted, has 0.

        ``mcc``, Matthews correlation of several classes (Gorodkin, 2004); 0 where truth or
        prediction is of one class only.

        ``auroc``, mean over the classes that occur in truth, but are not all of it, of the
        area under the ROC curve of the class against the rest, from its own column, with
        equal scores as half; NaN where the truth is of one class only. With K = 2 it is
        that of the second column. A class of a column of zeros has 0.5.

    Raises
    ------
    InputError
        If a code is no column, or a probability is NaN or infinite.

    References
    ----------
    J. Gorodkin, "Comparing two K-category assignments by a K-category correlation
    coefficient", Computational Biology and Chemistry 28, 2004. J. A. Hanley and B. J. McNeil, "The
    meaning and use of the area under a receiver operating characteristic curve", Radiology 143, 1982.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.metrics.classification import classification_scores
    >>> truth = np.array([0, 0, 1, 2])
    >>> scores = classification_scores(truth, np.eye(3)[[0, 1, 1, 2]])
    >>> {name: round(score, 3) for name, score in scores.items()}
    {'accuracy': 0.75, 'macro_f1': 0.778, 'weighted_f1': 0.75, 'mcc': 0.7, 'auroc': 0.861}
    """
    p = checked_matrix("classification_scores", "probabilities", probabilities)
    codes = checked_codes("classification_scores", "truth", truth, n_cells=len(p))
    _check_classes(codes, p.shape[1])
    counts = confusion(codes, predicted_classes(p), p.shape[1])
    f1, support = _f1(counts), counts.sum(axis=1)
    return {
        "accuracy": float(np.trace(counts) / len(codes)),
        "macro_f1": float(np.nanmean(f1)),
        "weighted_f1": float(np.nansum(f1 * support) / len(codes)),
        "mcc": _mcc(counts),
        "auroc": _auroc(codes, p, support),
    }


def predicted_classes(probabilities: ArrayLike) -> NDArray[np.int64]:
    """Most probable class of each cell.

    Parameters
    ----------
    probabilities
        (N, K).

    Returns
    -------
    ndarray
        (N,) int64; of equally probable classes the first.

    Raises
    ------
    InputError
        If a probability is NaN or infinite.

    Examples
    --------
    >>> from stgraph.metrics.classification import predicted_classes
    >>> predicted_classes([[0.2, 0.8], [0.5, 0.5]])
    array([1, 0])
    """
    p = checked_matrix("predicted_classes", "probabilities", probabilities)
    return np.asarray(p.argmax(axis=1), dtype=np.int64)


def macro_f1(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Macro F1 alone, as in `classification_scores`: fast, for use in a bootstrap.

    Parameters
    ----------
    truth, predicted
        (N,) integer codes of classes, from 0.

    Returns
    -------
    float
        Mean F1 of the classes that occur.

    Raises
    ------
    InputError
        If the codes are negative or not one for each cell.

    Examples
    --------
    >>> from stgraph.metrics.classification import macro_f1
    >>> round(macro_f1([0, 0, 1, 2], [0, 1, 1, 2]), 3)
    0.778
    """
    codes = checked_codes("macro_f1", "truth", truth)
    found = checked_codes("macro_f1", "predicted", predicted, n_cells=len(codes))
    n_classes = int(max(codes.max(), found.max())) + 1
    for each in (codes, found):
        _check_classes(each, n_classes)
    return float(np.nanmean(_f1(confusion(codes, found, n_classes))))


def confusion(truth: NDArray[np.int64], predicted: NDArray[np.int64], n_classes: int) -> NDArray[np.int64]:
    """How many cells of each class were taken for each class.

    Parameters
    ----------
    truth, predicted
        (N,) codes from 0 to ``n_classes`` - 1.
    n_classes
        K.

    Returns
    -------
    ndarray
        (K, K) int64, true classes in rows.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.metrics.classification import confusion
    >>> confusion(np.array([0, 0, 1]), np.array([0, 1, 1]), 2)
    array([[1, 1],
           [0, 1]])
    """
    pairs = np.bincount(truth * n_classes + predicted, minlength=n_classes**2)
    return pairs.reshape(n_classes, n_classes).astype(np.int64)


def _check_classes(codes: NDArray[np.int64], n_classes: int) -> None:
    outside = codes[(codes < 0) | (codes >= n_classes)]
    if len(outside):
        raise InputError(
            f"{len(outside)} of {len(codes)} cells have a class that is none of 0 to {n_classes - 1} "
            f"(the first is {outside[0]}): leave out cells without a label, and count every class as a column."
        )


def _f1(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """F1 of each class; NaN for a class that occurs in neither truth nor prediction."""
    occurs = counts.sum(axis=1) + counts.sum(axis=0)
    return np.where(occurs > 0, 2 * np.diag(counts) / np.maximum(occurs, 1), np.nan)


def _mcc(counts: NDArray[np.int64]) -> float:
    share = counts / counts.sum()
    true, found = share.sum(axis=1), share.sum(axis=0)
    if (counts.sum(axis=1) > 0).sum() < 2 or (counts.sum(axis=0) > 0).sum() < 2:
        return 0.0
    spread = np.sqrt((1 - true @ true) * (1 - found @ found))
    return float((np.trace(share) - true @ found) / spread)


def _auroc(codes: NDArray[np.int64], p: NDArray[np.float64], support: NDArray[np.int64]) -> float:
    """By the rank sum of Mann and Whitney."""
    present = np.flatnonzero(support)
    if len(present) < 2:
        return float("nan")
    areas = []
    for k in [1] if p.shape[1] == 2 else present:
        n = float(support[k])
        rank_sum = rankdata(p[:, k])[codes == k].sum()
        areas.append((rank_sum - n * (n + 1) / 2) / (n * (len(codes) - n)))
    return float(np.mean(areas))
