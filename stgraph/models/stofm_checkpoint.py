"""Weights of SToFM's SE(2) transformer in the layout they are published in.

A folder with ``config.json`` and ``se2transformer.pth``, a state dict by ``torch.save``. Of the latter only tensors
are read: no code in it is ever run.
"""

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stgraph._files import atomic_dir
from stgraph.errors import CheckpointError, InputError
from stgraph.models.pair_scope import CompletePairs, PairScope
from stgraph.models.stofm_se2 import SToFMSE2
from stgraph.models.weight_files import read_config, read_weights
from stgraph.nn.edge_attention.backends import Backend

CONFIG = "config.json"
WEIGHTS = "se2transformer.pth"

_LAYOUT = f"a folder with {CONFIG} and {WEIGHTS}"

RELEASED = CompletePairs(neighbors=50, unit="diagonal")
"""The pairs and distances that the released weights were trained on, as far as the released code tells."""

_SIZES = {
    "in_channels": ("input_dim", None),
    "hidden_channels": ("embedding_dim", 768),
    "num_layers": ("num_hidden_layers", 12),
    "heads": ("num_attention_heads", 32),
    "ffn_channels": ("ffn_embedding_dim", 768),
    "num_kernels": ("gaussian_hidden_dim", 128),
}
"""Our sizes, what the published config calls them, and what it means where it does not say."""

_RATES = ("dropout", "attention_dropout", "activation_dropout")

_OTHERWISE = {"pre_layernorm": False, "activation_fn": "gelu"}
"""Settings that would make another network of the same weights, and the value they must have."""

_MASK_VALUE = -100.0
"""What masked cells are set to, by the published code rather than the layout."""

_ENCODER = "model."
_HEADS = ("lm_head.", "pair_head.")


def load_stofm(
    folder: str | os.PathLike[str],
    *,
    scope: PairScope = RELEASED,
    tabulate: float | None = None,
    backend: Backend = "auto",
    random_state: int = 0,
) -> SToFMSE2:
    """Read the published layout.

    Parameters
    ----------
    folder
        Has ``config.json`` and ``se2transformer.pth``; other files are left alone. The weights are those of the bare
        encoder, or of the training class, whose names begin with ``model.`` and which has heads.
    scope
        Which nodes attend to which. The default is what the released code does: all pairs, those of cells that are
        not near each other at distance 100, the diagonal of the slice being 100 long.
    tabulate, backend
        As for `SToFMSE2`; here the distance bias is exact unless it is asked for otherwise.
    random_state
        Seed of the heads, where the file has none: they predict nothing then until they are trained.

    Returns
    -------
    SToFMSE2
        On the CPU, in eval mode. Masked cells are set to -100.

    Raises
    ------
    CheckpointError
        If a file is missing, damaged or holds more than tensors, or names, shapes and config do not all fit.

    Examples
    --------
    >>> import tempfile
    >>> from stgraph.models.stofm_checkpoint import load_stofm, save_stofm
    >>> from stgraph.models.stofm_se2 import SToFMSE2
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_stofm(SToFMSE2(in_channels=10, hidden_channels=32, num_layers=2), folder)
    ...     load_stofm(folder).num_layers
    2
    """
    folder = Path(folder)
    config, weights = read_config(folder / CONFIG, layout=_LAYOUT), _read_weights(folder / WEIGHTS)
    sizes = _sizes(folder, weights)
    _check_config(folder / CONFIG, config, sizes)
    rates = {name: config.get(name, 0.1) for name in _RATES}
    try:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(random_state)  # torch.manual_seed would seed every GPU, for good
            shape: dict[str, Any] = {**sizes, **rates}
            model = SToFMSE2(**shape, scope=scope, mask_value=_MASK_VALUE, tabulate=tabulate, backend=backend)
    except (TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"'{folder}' cannot be made a network: {error}") from error
    own = model.state_dict()
    if not any(name.startswith(_HEADS) for name in weights):
        weights |= {name: tensor for name, tensor in own.items() if name.startswith(_HEADS)}
    problems = list(_misfits(own, weights))
    if problems:
        raise CheckpointError(f"The weights in '{folder / WEIGHTS}' do not fit: {'; '.join(problems)}.")
    model.load_state_dict(weights)
    return model.eval()


def save_stofm(model: SToFMSE2, folder: str | os.PathLike[str], *, heads: bool = False) -> None:
    """Write the published layout: the inverse of `load_stofm`, to the bit.

    Parameters
    ----------
    model
        Post-norm, in float32, of finite weights. Scope, table and backend have no place in the layout, nor has a mask:
        with heads it must be what `load_stofm` takes, -100.
    folder
        Where to. It must not exist, or be empty; it appears whole or not at all.
    heads
        Whether to write the heads as well, in the layout of the training class; the published weights have none.

    Raises
    ------
    InputError
        If the layout has no place for the model, or the folder has content.
    """
    if model.norm != "post":
        raise InputError("The published layout of SToFM is post-norm: a model with norm='pre' has no place in it.")
    if heads and model.mask_value != _MASK_VALUE:
        mask = (
            "learned mask" if model.mask_value is None else f"mask_value, and {_MASK_VALUE} is not {model.mask_value}"
        )
        raise InputError(
            f"The published layout has no {mask}: give the model mask_value={_MASK_VALUE}, or heads=False."
        )
    state = {name: tensor for name, tensor in model.state_dict().items() if name.startswith((_ENCODER, *_HEADS))}
    if not heads:
        state = {name.removeprefix(_ENCODER): state[name] for name in state if name.startswith(_ENCODER)}
    if any(tensor.dtype != torch.float32 for tensor in state.values()):
        raise InputError("The published layout of SToFM is float32: call model.float() first.")
    if wrong := next((name for name, tensor in state.items() if not bool(torch.isfinite(tensor).all())), None):
        raise InputError(f"'{wrong}' of the model holds numbers that are not finite, which could not be read again.")
    config = {theirs: getattr(model, ours) for ours, (theirs, _) in _SIZES.items()}
    config |= {name: getattr(model, name) for name in _RATES}
    with atomic_dir(folder) as tmp:
        # Clones, for what is a view of something larger would be written with all of it.
        torch.save({name: tensor.cpu().clone().contiguous() for name, tensor in state.items()}, tmp / WEIGHTS)
        (tmp / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors by their name in the training class."""
    if not path.is_file():
        raise CheckpointError(f"There is no '{path}': the published layout is {_LAYOUT}.")
    weights = read_weights(path)
    for name, tensor in weights.items():
        if not tensor.is_floating_point():
            raise CheckpointError(
                f"'{path}' cannot be used: '{name}' is {tensor.dtype}, not float32 or a half precision."
            )
    if any(name.startswith(_ENCODER) for name in weights):
        return weights
    return {_ENCODER + name: tensor for name, tensor in weights.items()}


def _sizes(folder: Path, weights: Mapping[str, Tensor]) -> dict[str, int]:
    """Sizes of the network that the weights are of."""
    where = {
        "in_channels": ("embedding_layer.weight", 1),
        "hidden_channels": ("embedding_layer.weight", 0),
        "heads": ("gaussian.proj.2.weight", 0),
        "ffn_channels": ("encoder.layers.0.fc1.weight", 0),
        "num_kernels": ("gaussian.means.weight", 1),
    }
    lacking = sorted({name for name, _ in where.values() if _ENCODER + name not in weights})
    if lacking:
        found = f"has {', '.join(map(repr, list(weights)[:3]))}, ..." if weights else "is empty"
        raise CheckpointError(
            f"'{folder / WEIGHTS}' lacks {', '.join(map(repr, lacking))}, so it is not SToFM's SE(2) transformer: "
            f"it {found}."
        )
    for name, _ in where.values():
        if weights[_ENCODER + name].dim() != 2:
            raise CheckpointError(f"'{name}' in '{folder / WEIGHTS}' is no matrix.")
    sizes = {size: weights[_ENCODER + name].shape[axis] for size, (name, axis) in where.items()}
    layers = {at[1] for name in weights if (at := re.match(r"model\.encoder\.layers\.(\d+)\.", name))}
    return sizes | {"num_layers": len(layers)}


def _check_config(path: Path, config: Mapping[str, Any], sizes: Mapping[str, int]) -> None:
    problems = []
    for ours, (theirs, default) in _SIZES.items():
        says = config.get(theirs, default)
        if (theirs in config or says is not None) and (isinstance(says, bool) or says != sizes[ours]):
            unsaid = "" if theirs in config else ", which it means by leaving it out"
            problems.append(f"{theirs} {says!r}{unsaid}, but the weights have {sizes[ours]}")
    for name, needed in _OTHERWISE.items():
        if config.get(name, needed) != needed:
            problems.append(f"{name} {config[name]!r}, but only {needed!r} is published and read")
    for name in _RATES:
        rate = config.get(name, 0.1)
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate < 1:
            problems.append(f"{name} {rate!r}, which is not from 0 to below 1")
    if problems:
        raise CheckpointError(f"'{path}' says {'; and '.join(problems)}.")


def _misfits(own: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> Iterable[str]:
    yield from (f"missing '{name.removeprefix(_ENCODER)}'" for name in own if name not in weights)
    yield from (f"unknown '{name.removeprefix(_ENCODER)}'" for name in weights if name not in own)
    for name in own:
        if name in weights and own[name].shape != weights[name].shape:
            shape, needed = tuple(weights[name].shape), tuple(own[name].shape)
            yield f"'{name.removeprefix(_ENCODER)}' has shape {shape}, not {needed}"
