"""The config of a run, from the groups in ``configs/`` and the user's changes."""

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from stgraph._config import config_dir
from stgraph.errors import InputError


def compose_config(name: str, overrides: list[str], *, option: str = "--set") -> dict[str, Any]:
    """Compose and resolve a config.

    Parameters
    ----------
    name
        A file of ``configs/`` without suffix.
    overrides
        Hydra overrides: ``group=choice`` or ``group.key=value``; ``+group.key=value``
        for a key the config does not list.
    option
        How overrides are given on the command line, for the message of an error; empty if as they are.

    Returns
    -------
    dict
        Plain values, interpolations resolved.

    Raises
    ------
    InputError
        If an override names a group, choice or key that is not there.

    Examples
    --------
    >>> from stgraph.cli.compose import compose_config
    >>> compose_config("fit", ["graph.n_neighbors=6"])["graph"]["n_neighbors"]
    6
    """
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            config = compose(name, overrides=overrides)
        resolved: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        # Of Hydra's answer: what is wrong and what there is, not where it looked.
        reason = " ".join(str(error).split())
        for rest in (" Config search path:", " See https:", " To append to your config"):
            reason = reason.partition(rest)[0]
        reason = reason.rstrip(".")
        where = f" ({option})" if option else ""
        if (key := re.search(r"Could not override '([^']+)'", reason)) is not None:
            reason = f"there is no setting '{key[1]}'{_meant(name, key[1], overrides)}"
        stop = "" if reason.endswith("?") else "."
        show = "" if option else ", and --show prints them as they are composed"
        raise InputError(
            f"The settings{where} cannot be used: {reason}{stop} "
            f"The settings there are stand in files of '{config_dir()}'{show}."
        ) from error
    return resolved


def _meant(name: str, key: str, overrides: list[str]) -> str:
    """Of all settings the one whose name is nearest; in the same group rather than elsewhere."""
    GlobalHydra.instance().clear()
    others = [text for text in overrides if text.partition("=")[0] != key]
    try:
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            known = list(_keys_of(OmegaConf.to_container(compose(name, overrides=others), resolve=False)))
    except (HydraException, OmegaConfBaseException):  # there is more that cannot be used
        return ""
    group = key.rpartition(".")[0]
    near = [each for each in known if each.rpartition(".")[0] == group]
    close = difflib.get_close_matches(key, near, n=1) or difflib.get_close_matches(key, known, n=1)
    return f", did you mean '{close[0]}'?" if close else ""


def _keys_of(config: Any, above: str = "") -> Iterator[str]:
    if isinstance(config, Mapping):
        for key, value in config.items():
            yield f"{above}{key}"
            yield from _keys_of(value, f"{above}{key}.")
