"""Model directories: arrays in safetensors, everything else in ``config.json``.

No pickle is read. The config names classes, which `stgraph.tasks.pretrained` builds only
if they are of stgraph or of a package the user trusts.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from stgraph._files import atomic_path
from stgraph._version import __version__
from stgraph.errors import CheckpointError

FORMAT_VERSION = 1
"""Of the layout of a model directory; raised when old code could not read new ones."""

CONFIG = "config.json"


def save_checkpoint(
    folder: str | os.PathLike[str], config: Mapping[str, Any], tensors: Mapping[str, Mapping[str, Tensor]]
) -> None:
    """Write a model directory.

    Parameters
    ----------
    folder
        Where to; created if needed. ``config.json``, the one of an earlier model too, is
        removed first and written last, so a folder that has one is complete.
    config
        What JSON can hold.
    tensors
        For each name, tensors that go to ``NAME.safetensors``.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    unmark(folder)
    files: dict[str, dict[str, Any]] = {}
    for name, group in tensors.items():
        path = folder / f"{name}.safetensors"
        with atomic_path(path) as tmp:
            save_file({key: tensor.detach().cpu().contiguous() for key, tensor in group.items()}, tmp)
        files[path.name] = {"bytes": path.stat().st_size, "sha256": _sha256(path)}
    whole = {
        "format_version": FORMAT_VERSION,
        "stgraph_version": __version__,
        "files": files,
        **config,
    }
    with atomic_path(folder / CONFIG) as tmp:
        tmp.write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")


def unmark(folder: Path) -> None:
    """Say of a model directory, if it is one, that it is not complete: parts of it are about to be replaced."""
    (folder / CONFIG).unlink(missing_ok=True)


def load_checkpoint(folder: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]]:
    """Read a model directory, every file checked against its recorded size and hash.

    Parameters
    ----------
    folder
        A directory that `save_checkpoint` wrote.

    Returns
    -------
    config : dict
        The content of ``config.json``.
    tensors : dict
        For each file name without suffix, its tensors.

    Raises
    ------
    CheckpointError
        If it is no model directory, of another format version, or a file is missing,
        truncated or changed.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(f"There is no model directory '{folder}'.")
    config = _load_config(folder)
    tensors: dict[str, dict[str, Tensor]] = {}
    for name, expected in config["files"].items():
        path = folder / name
        if Path(name).name != name or path.suffix != ".safetensors":
            raise CheckpointError(f"'{folder / CONFIG}' names a file '{name}' that is not one of its weights.")
        if not path.is_file():
            raise CheckpointError(f"The model directory '{folder}' lacks '{name}': copy it again, whole.")
        size = path.stat().st_size
        if size != expected["bytes"]:
            raise CheckpointError(
                f"'{path}' has {size} bytes, not the {expected['bytes']} it was written with: "
                "it is truncated or replaced; copy the model directory again."
            )
        if _sha256(path) != expected["sha256"]:
            raise CheckpointError(f"'{path}' has changed since it was written: copy the model directory again.")
        try:
            tensors[path.stem] = load_file(path)
        except SafetensorError as error:
            raise CheckpointError(f"'{path}' is not a safetensors file ({error}).") from error
    return config, tensors


def load_weights(module: torch.nn.Module, tensors: Mapping[str, Tensor], *, name: str) -> None:
    """Load weights strictly; every mismatch is listed.

    Raises
    ------
    CheckpointError
        If a weight is missing, unknown or of another shape.
    """
    own = module.state_dict()
    problems = [f"missing '{key}'" for key in own if key not in tensors]
    problems += [f"unknown '{key}'" for key in tensors if key not in own]
    problems += [
        f"'{key}' has shape {tuple(tensors[key].shape)}, not {tuple(own[key].shape)}"
        for key in own
        if key in tensors and own[key].shape != tensors[key].shape
    ]
    if problems:
        raise CheckpointError(f"The weights do not fit {name}: {'; '.join(problems)}.")
    module.load_state_dict(dict(tensors))


def _load_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    if not path.is_file():
        raise CheckpointError(f"'{folder}' is not a model directory: it has no {CONFIG}.")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"'{path}' is damaged ({error}): copy the model directory again.") from error
    version = config.get("format_version") if isinstance(config, dict) else None
    if version is None:
        raise CheckpointError(f"'{path}' was not written by stgraph: it has no format_version.")
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"'{folder}' has format version {version} (stgraph {config.get('stgraph_version', 'unknown')}), and "
            f"stgraph {__version__} reads version {FORMAT_VERSION}: use the stgraph that wrote it, "
            "or fit again."
        )
    files = config.get("files")
    if not isinstance(files, dict) or not all(
        isinstance(f, dict) and {"bytes", "sha256"} <= set(f) for f in files.values()
    ):
        raise CheckpointError(f"'{path}' is damaged: it does not list its files.")
    return dict(config)


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
