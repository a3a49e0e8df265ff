"""What settings span."""

import re

import pytest

from stgraph.cli.executor import executor_of
from stgraph.cli.sweep import read_sweep
from stgraph.errors import InputError


def spanned(*settings):
    return {axis.key: list(axis.values) for axis in read_sweep("train", list(settings)).axes}


def test_hydras_grammar():
    axes = spanned("a=8,16", "b=range(0,3)", "+c=choice(x,'y z')", "d=1e-3,null,true", "e=[1,2],[3]", "f=[1,2]", "g=1")
    assert axes == {
        "a": [8, 16],
        "b": [0, 1, 2],
        "c": ["x", "y z"],
        "d": [0.001, "null", "True"],
        "e": ["[1, 2]", "[3]"],
    }


def test_points_are_all_combinations():
    sweep = read_sweep("train", ["a=1,2", "b=x,y", "c=0"])
    points = sweep.points()
    assert [point.name for point in points] == ["a=1,b=x", "a=1,b=y", "a=2,b=x", "a=2,b=y"]
    assert points[1].axes == {"a": 1, "b": "y"}
    assert points[1].settings == ("a=1", "b=y")
    assert sweep.fixed == ("c=0",)
    assert [point.name for point in sweep.points(apart=["a"])] == ["b=x", "b=y"]


def test_a_value_given_twice_is_one_and_the_last_word_counts():
    assert spanned("a=1,1,2") == {"a": [1, 2]}
    assert spanned("a=1,2", "a=3") == {}


def test_an_experiment_names_values_and_the_command_line_others():
    assert spanned("experiment=neighbor_scaling_se2")["k"] == [8, 16, 32, 64]
    axes = spanned("experiment=neighbor_scaling_se2", "k=4,8", "size=small", "trainer.lr=0.1,0.2")
    assert list(axes) == ["method", "size", "k", "random_state", "trainer.lr"]
    assert (axes["k"], axes["size"]) == ([4, 8], ["small"])
    assert spanned("experiment=neighbor_scaling_se2", "sweep.k=[1,2]")["k"] == [1, 2]
    assert "k" not in spanned("experiment=neighbor_scaling_se2", "~sweep.k")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("a=interval(0,1)", "names no values: a sweep takes a=1,2,3"),
        ("a=(", "cannot be used"),
        ("experiment=stofm,stofm_small", "runs one experiment"),
        ("experiment=nix", "cannot be used: .*nix"),
    ],
)
def test_settings_that_cannot_be_used(setting, message):
    with pytest.raises(InputError, match=message) as caught:
        read_sweep("train", ["b=1,2", setting])
    assert "\n" not in str(caught.value)


def test_what_is_varied_cannot_be_taken_away():
    with pytest.raises(InputError, match="takes away what the sweep varies"):
        read_sweep("train", ["experiment=neighbor_scaling_se2", "~k"])


def square(number):
    return number * number


def test_executors():
    with executor_of(None, 1) as executor:
        assert executor is None
    threads = {"_target_": "concurrent.futures.ThreadPoolExecutor", "max_workers": 2}
    with executor_of(threads, 1) as executor:
        assert executor.submit(square, 3).result() == 9
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(square, 3)
    with pytest.raises(KeyError), executor_of(threads, 1) as executor:
        raise KeyError
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(square, 3)


@pytest.mark.parametrize(
    ("config", "workers", "message"),
    [
        ({"_target_": "mylab.cluster.nodes"}, 1, "'mylab.cluster.nodes' cannot be made .*mylab"),
        ({"_target_": "concurrent.futures.ThreadPoolExecutor", "nodes": 2}, 1, "cannot be made .*nodes"),
        ({"_target_": "builtins.dict"}, 1, r"gives no concurrent.futures.Executor, but \{\}"),
        ({"nodes": 2}, 1, "executor takes {_target_: import.path"),
        ({"_target_": "concurrent.futures.ThreadPoolExecutor"}, 2, "--workers: give one of them"),
    ],
)
def test_executors_that_are_none(config, workers, message):
    with pytest.raises(InputError) as caught, executor_of(config, workers):
        pass
    assert re.search(message, str(caught.value))
    assert "\n" not in str(caught.value)
