"""The config of a run, from the groups in ``configs/`` and the user's changes."""

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
        raise InputError(
            f"The settings{where} cannot be used: {reason}. The settings there are stand in files of '{config_dir()}'."
        ) from error
    return resolved
