"""What a sweep runs: settings in Hydra's grammar (``k=8,16``, ``seed=range(0,3)``), and the points they span."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString, Transformer
from hydra.errors import HydraException

from stgraph._config import config_dir
from stgraph.cli.compose import compose_config
from stgraph.errors import InputError

SWEEP = "sweep"
"""Settings of an experiment that say what it runs: values by key, in the grammar of the command line."""


@dataclass(frozen=True)
class Axis:
    """One setting and the values it takes.

    Attributes
    ----------
    key
        The setting, as ``model.dropout``.
    values
        Numbers and texts, for tables.
    settings
        The same as a person would type them.
    """

    key: str
    values: tuple[Any, ...]
    settings: tuple[str, ...]


@dataclass(frozen=True)
class Point:
    """One value of each axis.

    Attributes
    ----------
    name
        As ``k=8,size=small``.
    axes
        Value by key.
    settings
        The same as a person would type them.
    """

    name: str
    axes: dict[str, Any]
    settings: tuple[str, ...]


@dataclass(frozen=True)
class Sweep:
    """What the settings of a command span.

    Attributes
    ----------
    axes
        Those of the experiment, then those of the command line, which also changes what an
        experiment says.
    fixed
        The other settings.
    experiment
        The config of the experiment alone.
    """

    axes: tuple[Axis, ...]
    fixed: tuple[str, ...]
    experiment: Mapping[str, Any]

    def points(self, *, apart: Sequence[str] = ()) -> list[Point]:
        """All combinations, the last axis fastest; without the axes in ``apart``."""
        spanned = [axis for axis in self.axes if axis.key not in apart]
        found = []
        for chosen in product(*(range(len(axis.values)) for axis in spanned)):
            pairs = list(zip(spanned, chosen, strict=True))
            values = {axis.key: axis.values[i] for axis, i in pairs}
            name = ",".join(f"{key}={value}" for key, value in values.items())
            found.append(Point(name, values, tuple(axis.settings[i] for axis, i in pairs)))
        return found

    def axis(self, key: str) -> Axis | None:
        """The axis of a setting; None if it is not one."""
        return next((axis for axis in self.axes if axis.key == key), None)


def read_sweep(config: str, settings: Sequence[str]) -> Sweep:
    """Tell what is varied from what is not.

    Parameters
    ----------
    config
        A file of ``configs/`` without suffix.
    settings
        Those of a command line. ``a=1,2``, ``a=range(0,3)`` and ``a=choice(x,y)`` are axes, and so is
        whatever the experiment names under ``sweep``, where ``a=1`` leaves one value.

    Returns
    -------
    Sweep
        Points are not composed yet, so that one which cannot be costs no other.

    Raises
    ------
    InputError
        If a setting cannot be read, or the experiment is not there.

    Examples
    --------
    >>> from stgraph.cli.sweep import read_sweep
    >>> sweep = read_sweep("train", ["experiment=stofm_small", "random_state=0,1", "trainer.lr=0.1"])
    >>> [point.name for point in sweep.points()]
    ['random_state=0', 'random_state=1']
    """
    given = {override.key_or_group: override for override in _parsed(settings)}
    if (chosen := given.get("experiment")) is not None and chosen.is_sweep_override():
        raise InputError("A sweep runs one experiment; start one command for each, with folders of their own.")
    first = [o.input_line for o in given.values() if o.key_or_group.partition(".")[0] in ("experiment", SWEEP)]
    experiment = compose_config(config, first, option="")
    named = experiment.get(SWEEP) or {}
    if not isinstance(named, Mapping):
        raise InputError(f"'{SWEEP}' of the experiment must say values by key, not {named!r}.")
    defaults = {o.key_or_group: o for o in _parsed([f"{key}={_text(value)}" for key, value in named.items()])}
    axes = {key: _axis(given.get(key, override)) for key, override in defaults.items()}
    axes |= {key: _axis(override) for key, override in given.items() if override.is_sweep_override()}
    fixed = [override.input_line for key, override in given.items() if key not in axes]
    return Sweep(tuple(axes.values()), tuple(fixed), experiment)


def _parsed(settings: Sequence[str]) -> list[Override]:
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
            return parser.parse_overrides(list(settings))  # type: ignore[no-any-return]
    except HydraException as error:
        raise InputError(
            f"The settings cannot be used: {' '.join(str(error).split()).partition(' See https:')[0]}."
        ) from error


def _axis(override: Override) -> Axis:
    key = override.get_key_element()
    if key.startswith("~"):
        raise InputError(f"'{override.input_line}' takes away what the sweep varies: give it one value instead.")
    if not override.is_sweep_override():
        return Axis(override.key_or_group, (_plain(override.value()),), (override.input_line,))
    if not override.is_discrete_sweep():
        raise InputError(f"'{override.input_line}' names no values: a sweep takes a=1,2,3 or a=range(0,3).")
    texts = [f"{key}={text}" for text in override.sweep_string_iterator()]
    values = [_plain(value) for value in override.sweep_iterator(Transformer.identity)]
    once = {str(value): (value, text) for value, text in zip(values, texts, strict=True)}  # a value given twice is one
    return Axis(override.key_or_group, tuple(v for v, _ in once.values()), tuple(t for _, t in once.values()))


def _plain(value: Any) -> Any:
    """A number, or a text a person reads."""
    if isinstance(value, QuotedString):
        return str(value.text)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    return "null" if value is None else str(value)


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
