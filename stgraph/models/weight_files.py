"""Configs and state dicts in files of others: tensors are read, and no code in them is ever run."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from stgraph.errors import CheckpointError

_FLOATS = (torch.float32, torch.bfloat16, torch.float16)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a state dict that ``torch.save`` or safetensors wrote, or Lightning as part of a checkpoint.

    Parameters
    ----------
    path
        Ends in ``.safetensors``, or else is of ``torch.save``.

    Returns
    -------
    dict
        Dense tensors on the CPU: finite ones of float32 or half precision, and whole numbers.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged or holds more than such tensors.

    Examples
    --------
    >>> import tempfile, torch
    >>> from pathlib import Path
    >>> from stgraph.models.weight_files import read_weights
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     torch.save({"weight": torch.ones(2)}, Path(folder, "a.bin"))
    ...     read_weights(Path(folder, "a.bin"))
    {'weight': tensor([1., 1.])}
    """
    if not path.is_file():
        raise CheckpointError(f"There is no file '{path}'.")
    try:
        if path.suffix == ".safetensors":
            weights = load_file(path)
        else:
            weights = torch.load(path, map_location="cpu", weights_only=True)
            if isinstance(weights, Mapping) and isinstance(weights.get("state_dict"), Mapping):
                weights = weights["state_dict"]  # of Lightning, which keeps an optimizer and much else beside it
    except Exception as error:  # whatever a damaged file may bring about
        alone = " Of a checkpoint that you trust, save the 'state_dict' alone." if path.suffix == ".ckpt" else ""
        raise CheckpointError(
            f"'{path}' cannot be read ({type(error).__name__}): it is damaged, or holds more than tensors, "
            f"which is not run.{alone}"
        ) from error
    if not isinstance(weights, Mapping) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in weights.items()
    ):
        raise CheckpointError(f"'{path}' is not a state dict, which has a tensor for each name.")
    problems = [f"'{name}' {problem}" for name, tensor in weights.items() if (problem := _problem(tensor))]
    if problems:
        raise CheckpointError(f"'{path}' cannot be used: {'; '.join(problems)}.")
    return dict(weights)


def read_config(path: Path, *, layout: str) -> dict[str, Any]:
    """Read the JSON config of a published model.

    Parameters
    ----------
    path
        The file.
    layout
        What folder it belongs to, for who lacks it.

    Returns
    -------
    dict
        Its content.

    Raises
    ------
    CheckpointError
        If it is missing, or no JSON object.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from stgraph.models.weight_files import read_config
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "config.json").write_text('{"input_dim": 256}')
    ...     read_config(Path(folder, "config.json"), layout="a folder with config.json")
    {'input_dim': 256}
    """
    if not path.is_file():
        raise CheckpointError(f"There is no '{path}': the published layout is {layout}.")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"'{path}' is not JSON ({error}): copy it again.") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"'{path}' is not the config of a model, which is a JSON object.")
    return config


def _problem(tensor: Tensor) -> str | None:
    if tensor.layout != torch.strided:
        return f"has the layout {tensor.layout}, not a dense one"
    if tensor.is_meta or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        return f"holds fewer numbers than its shape, {tuple(tensor.shape)}, says"
    if tensor.dtype in (torch.int32, torch.int64):
        return None
    if tensor.dtype not in _FLOATS:
        return f"is {tensor.dtype}, not float32 or a half precision"
    if not bool(torch.isfinite(tensor).all()):
        return "holds numbers that are not finite"
    return None


def misfits(own: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> Iterable[str]:
    """What keeps weights from being those of a network: names, shapes, and types that are no floating point.

    Examples
    --------
    >>> import torch
    >>> from stgraph.models.weight_files import misfits
    >>> list(misfits({"a": torch.ones(2), "b": torch.ones(1)}, {"a": torch.ones(3)}))
    ["missing 'b'", "'a' has shape (3,), not (2,)"]
    """
    yield from (f"missing '{name}'" for name in own if name not in weights)
    yield from (f"unknown '{name}'" for name in weights if name not in own)
    for name in own:
        if name not in weights:
            continue
        if own[name].shape != weights[name].shape:
            yield f"'{name}' has shape {tuple(weights[name].shape)}, not {tuple(own[name].shape)}"
        elif not weights[name].is_floating_point():
            yield f"'{name}' is {weights[name].dtype}, not float32 or a half precision"
