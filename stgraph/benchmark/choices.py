"""Parts of a benchmark by name: the files of ``configs/``, or a config of one's own."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from stgraph._config import TARGET, config_dir
from stgraph.errors import InputError

GROUPS: dict[str, tuple[str, ...]] = {
    "task": ("task",),
    "model": ("baseline", "learned", "peer", "deconvolver"),
    "split": ("split",),
    "shift": ("shift",),
}
"""Folders of ``configs/`` in which a kind of part is looked up."""


def choices(kind: str) -> dict[str, Path]:
    """Files of all parts of a kind, by name.

    Parameters
    ----------
    kind
        One of `GROUPS`.

    Returns
    -------
    dict
        Name to file.

    Examples
    --------
    >>> from stgraph.benchmark.choices import choices
    >>> "pca" in choices("model")
    True
    """
    folders = [config_dir() / group for group in GROUPS[kind]]
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.yaml"))}


def chosen(kind: str, given: Sequence[str] | Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Configs of the parts that were asked for.

    Parameters
    ----------
    kind
        One of `GROUPS`.
    given
        Names, or names with configs of one's own (None where the name says it).

    Returns
    -------
    dict
        Config by name.

    Raises
    ------
    InputError
        If a name is not there, or a config names no class.

    Examples
    --------
    >>> from stgraph.benchmark.choices import chosen
    >>> chosen("model", {"mine": {"_target_": "stgraph.preprocess.encoder.LogPCA", "n_components": 5}})["mine"]
    {'_target_': 'stgraph.preprocess.encoder.LogPCA', 'n_components': 5}
    """
    named = dict(given) if isinstance(given, Mapping) else dict.fromkeys(given)
    files = choices(kind)
    found = {}
    for name, config in named.items():
        if config is None:
            if name not in files:
                raise InputError(f"There is no {kind} called '{name}'; there are: {', '.join(files)}.")
            config = yaml.safe_load(files[name].read_text(encoding="utf-8"))  # noqa: PLW2901
        if not isinstance(config, Mapping) or TARGET not in config:
            raise InputError(f"The {kind} '{name}' must be a config with {TARGET}, not {config!r}.")
        found[name] = dict(config)
    return found
