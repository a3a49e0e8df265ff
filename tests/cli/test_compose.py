import pytest
import yaml

from stgraph._config import TARGET, config_dir, instantiate
from stgraph.cli.compose import compose_config
from stgraph.errors import InputError
from stgraph.tasks.fit import DEFAULTS

GROUPS = [next(iter(entry)) for entry in yaml.safe_load((config_dir() / "fit.yaml").read_text())["defaults"][:-1]]
CHOICES = [(group, path.stem) for group in GROUPS for path in sorted((config_dir() / group).glob("*.yaml"))]


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_choice_can_be_built(group, choice):
    config = compose_config("fit", [f"{group}={choice}"])[group]
    built = instantiate(config, **({"in_channels": 4} if group == "model" else {}))
    assert built == {} if choice == "none" else built


def test_the_config_says_what_the_classes_default_to():
    """A run from the command line and one from Python are the same run."""
    config = compose_config("fit", [])
    names = {"builder": "graph", "partitioner": "partition", "objectives": "objective"}
    for part, default in DEFAULTS.items():
        group = config[names.get(part, part)]
        classes = default if isinstance(default, tuple) else (default,)
        configs = list(group.values()) if isinstance(default, tuple) else [group]
        extra = {"in_channels": 4} if part == "model" else {}
        for cls, own in zip(classes, configs, strict=True):
            assert own[TARGET] == f"{cls.__module__}.{cls.__qualname__}"
            assert repr(instantiate(own, **extra)) == repr(cls(**extra))


def test_a_seed_reaches_every_part():
    config = compose_config("fit", ["random_state=7"])
    seeds = [part["random_state"] for part in config.values() if isinstance(part, dict) and "random_state" in part]
    assert len(seeds) >= 4
    assert set(seeds) == {7}


def test_later_settings_win():
    config = compose_config("fit", ["graph.n_neighbors=6", "graph.n_neighbors=7", "+graph.new=1"])
    assert config["graph"]["n_neighbors"] == 7
    assert config["graph"]["new"] == 1


@pytest.mark.parametrize(
    "bad", ["nix=1", "graph=nix", "graph.nix=1", "graph", "graph=null", "a b", "=", "trainer.lr=${nix}"]
)
def test_settings_that_cannot_be_used(bad):
    with pytest.raises(InputError) as caught:
        compose_config("fit", [bad])
    assert "\n" not in str(caught.value)
    assert "search path" not in str(caught.value)


def test_a_failure_leaves_hydra_usable():
    with pytest.raises(InputError):
        compose_config("fit", ["nix=1"])
    assert compose_config("fit", [])["random_state"] == 0


def test_every_config_is_yaml_of_known_groups():
    top = yaml.safe_load((config_dir() / "fit.yaml").read_text())
    assert {group for entry in top["defaults"] if isinstance(entry, dict) for group in entry} == set(GROUPS)


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("trainer.max_stepz", "trainer.max_steps"),
        ("random_sate", "random_state"),
        ("stages.neighborhoods.epoch", "stages.neighborhoods.epochs"),
    ],
)
def test_a_misspelt_key_is_told_what_was_meant(key, meant):
    with pytest.raises(InputError, match=f"no setting '{key}', did you mean '{meant}'\\? .*--show prints them"):
        compose_config("train", ["experiment=aido_tissue", f"{key}=4"], option="")
