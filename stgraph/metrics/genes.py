"""How well the expression of each gene was told."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stgraph.metrics.arguments import checked_pair
from stgraph.metrics.columns import column_pearson, column_rmse, column_spearman


def gene_scores(truth: ArrayLike, predicted: ArrayLike) -> dict[str, NDArray[np.float64]]:
    """Correlations and error of each gene over cells.

    Parameters
    ----------
    truth, predicted
        (N, G) expression, both on one scale (log counts, say), dense.

    Returns
    -------
    dict
        Three arrays (G,). ``pearson`` and ``spearman`` (equal values share their mean
        rank), each NaN for a gene that is constant in truth, and 0 for one of which the
        prediction alone is constant: were it NaN too, a model could leave the genes it
        knows nothing of out of its mean. ``rmse``, in the unit of the expression.

    Raises
    ------
    InputError
        If the shapes differ, or a number is NaN or infinite.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.metrics.genes import gene_scores
    >>> truth = np.array([[0.0, 1.0], [1.0, 1.0], [5.0, 1.0]])
    >>> scores = gene_scores(truth, np.array([[0.0, 1.0], [1.0, 2.0], [2.0, 3.0]]))
    >>> scores["pearson"].round(3), scores["spearman"]
    (array([0.945,   nan]), array([ 1., nan]))
    """
    true, found = checked_pair("gene_scores", truth, predicted)
    return {
        "pearson": column_pearson(true, found),
        "spearman": column_spearman(true, found),
        "rmse": column_rmse(true, found),
    }
