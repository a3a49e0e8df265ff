import numpy as np
import pytest

from stgraph.data.convert import to_hetero_data
from stgraph.errors import InputError
from stgraph.graph.build import build_graph
from stgraph.io.synthetic import synthetic_tissue
from stgraph.models.cell_features import CellFeatures


def test_embeddings_are_the_features():
    graph = build_graph(synthetic_tissue(n_cells=100, n_genes=50)[0])
    data, model = to_hetero_data(graph), CellFeatures(graph.x.shape[1])
    np.testing.assert_array_equal(model.embed(data).numpy(), graph.x)
    out = model(data)
    assert out.cell is out.query
    assert out.near_pair.shape == (data["cell", "near", "cell"].num_edges, 0)


def test_there_is_nothing_to_train():
    model = CellFeatures(4)
    assert list(model.parameters()) == []
    for predict in (model.predict_cells, model.predict_distances):
        with pytest.raises(InputError, match="has no weights, so no stage can train it"):
            predict(None)
