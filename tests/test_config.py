import pytest

from stgraph._config import import_class, instantiate, to_config
from stgraph.errors import InputError
from stgraph.graph.builders import KNN

KNN_CONFIG = {
    "_target_": "stgraph.graph.builders.KNN",
    "n_neighbors": 6,
    "symmetric": False,
    "search": {"_target_": "stgraph.graph.search.KDTreeSearch"},
}


def test_round_trip():
    assert to_config(instantiate(KNN_CONFIG)) == KNN_CONFIG
    assert instantiate(to_config(KNN(3))) == KNN(3)


def test_nested_and_plain_values():
    built = instantiate({"builders": [KNN_CONFIG, KNN_CONFIG], "number": 3, "nothing": None})
    assert built == {"builders": [KNN(6, False)] * 2, "number": 3, "nothing": None}
    assert instantiate(KNN(5)) == KNN(5)
    assert to_config({"a": [KNN(6, False)], "b": (1, "x")}) == {"a": [KNN_CONFIG], "b": [1, "x"]}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"_target_": "stgraph.graph.builders.KNN", "n_neighbours": 6}, "Did you mean 'n_neighbors'"),
        ({"_target_": "stgraph.graph.builders.Knn"}, "Did you mean 'KNN'"),
        ({"_target_": "no.such.module.Class"}, "cannot be imported"),
        ({"_target_": "KNN"}, "not an import path"),
        ({"_target_": "os.getcwd"}, "is not a class"),
        ({"_target_": "stgraph.models.se2_transformer.SE2Transformer"}, "needs the parameter 'in_channels'"),
    ],
)
def test_errors_say_what_to_mend(config, message):
    with pytest.raises(InputError, match=message):
        instantiate(config)


def test_a_class_must_keep_its_arguments():
    class Forgetful:
        def __init__(self, size):
            pass

    with pytest.raises(TypeError, match="does not keep its constructor argument 'size'"):
        to_config(Forgetful(3))


def test_import_class():
    assert import_class("stgraph.graph.builders.KNN") is KNN
