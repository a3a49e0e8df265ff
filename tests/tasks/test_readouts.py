import numpy as np
import pytest

from stgraph._config import instantiate, to_config
from stgraph.errors import InputError
from stgraph.tasks.readouts import Context, Own, SideBySide


def test_context_is_the_embedding(fitted):
    name, graph = next(iter(fitted.graphs.items()))
    np.testing.assert_array_equal(Context()(fitted.pretrained, graph), fitted.adatas[name].obsm["X_stgraph"])


def test_own_features_are_those_of_the_cell_encoder(fitted, tissue):
    features = Own()(fitted.pretrained, fitted.graphs["synthetic_0"])
    np.testing.assert_array_equal(features, fitted.pretrained.encoder.transform(tissue))


def test_side_by_side_none_drowns(fitted):
    both = SideBySide().fit(fitted.pretrained, fitted.graphs.values())
    x = np.concatenate([both(fitted.pretrained, graph) for graph in fitted.graphs.values()])
    own, context = x[:, :20], x[:, 20:]
    assert context.shape[1] == 64
    np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(own.var(axis=0).sum(), context.var(axis=0).sum(), rtol=1e-3)
    np.testing.assert_allclose(x.var(axis=0).mean(), 1, rtol=1e-3)


def test_a_block_is_scaled_as_a_whole_and_by_training_only(fitted):
    first, second = fitted.graphs.values()
    both = SideBySide([Own()]).fit(fitted.pretrained, [first])
    at_first, at_second = both(fitted.pretrained, first), both(fitted.pretrained, second)
    factor = (at_first / (first.x - first.x.mean(axis=0))).ravel()
    np.testing.assert_allclose(factor, np.median(factor), rtol=1e-2)
    np.testing.assert_allclose(at_second, (second.x - first.x.mean(axis=0)) * np.median(factor), rtol=1e-3, atol=1e-4)


def test_not_fitted_or_empty(fitted):
    with pytest.raises(InputError, match="SideBySide was not fitted"):
        SideBySide()(fitted.pretrained, fitted.graphs["synthetic_0"])
    with pytest.raises(InputError, match="at least one readout"):
        SideBySide([])


def test_config():
    config = to_config(SideBySide([Context(), SideBySide([Own()])]))
    assert to_config(instantiate(config)) == config
