"""The YAML files and the constructors say the same thing."""

import inspect

import pytest
import yaml

from stgraph._config import TARGET, config_dir, import_class, instantiate, to_config
from stgraph.cli.compose import compose_config
from stgraph.tasks.fit import DEFAULTS, fit

GROUP_OF = {"builder": "graph", "partitioner": "partition"}


@pytest.fixture(scope="module")
def config():
    return compose_config("fit", [])


def parameters(cls):
    defaults = {name: p.default for name, p in inspect.signature(cls).parameters.items() if name != "in_channels"}
    return {name: to_config(default) for name, default in defaults.items()}


@pytest.mark.parametrize("name", [name for name in DEFAULTS if name != "objectives"])
def test_defaults_are_those_of_the_constructors(config, name):
    group = dict(config[GROUP_OF.get(name, name)])
    cls = import_class(group.pop(TARGET))
    assert cls is DEFAULTS[name]
    assert group == parameters(cls)


def test_default_objectives(config):
    groups = [dict(group) for group in config["objective"].values()]
    assert tuple(import_class(group.pop(TARGET)) for group in groups) == DEFAULTS["objectives"]
    assert groups == [parameters(cls) for cls in DEFAULTS["objectives"]]


def test_other_defaults(config):
    signature = inspect.signature(fit).parameters
    for name in ("num_hops", "random_state"):
        assert config[name] == signature[name].default


GROUPS = [next(iter(entry)) for entry in yaml.safe_load((config_dir() / "fit.yaml").read_text())["defaults"][:-1]]
CHOICES = [(group, path.stem) for group in GROUPS for path in sorted((config_dir() / group).glob("*.yaml"))]


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_choice_builds(group, choice):
    chosen = compose_config("fit", [f"{group}={choice}"]).get(group)
    if group == "model":
        chosen = {**chosen, "in_channels": 4}
    if chosen and TARGET in chosen:
        assert type(instantiate(chosen)).__name__ == chosen[TARGET].rpartition(".")[2]
    elif chosen:
        assert all(objective.name == name for name, objective in instantiate(chosen).items())
    else:
        assert choice == "none"
