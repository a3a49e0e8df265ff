"""What a run is, in what JSON can hold, so that another one is not taken for it."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.data import HeteroData

from stgraph._config import TARGET, to_config
from stgraph.training.batches import Batches
from stgraph.training.random_transforms import as_at_first

Fingerprint = dict[str, Any]

_LOOKED_INTO = 3
"""Batches whose content is compared: the whole of a corpus would take an epoch to read."""


_IN_WORDS = {
    "data.order": "its batches hold something else or come in another order",
    "data.content": "its data have another content",
}


def settings_of(part: Any) -> Any:
    """The config of a part of a run; of one that does not tell its settings, the name of its class."""
    try:
        return to_config(part)
    except TypeError:
        return {TARGET: f"{type(part).__module__}.{type(part).__qualname__}"}


def module_print(module: nn.Module) -> Fingerprint:
    """Class, settings and weights by name and shape."""
    shapes = {name: str(tuple(tensor.shape)) for name, tensor in module.state_dict().items()}
    return {"settings": settings_of(module), "weights": shapes}


def data_print(batches: Batches) -> Fingerprint:
    """Number, make-up and, of a few, content of the batches of the first epoch."""
    plan = batches.epoch(1)
    chosen = np.unique(np.linspace(0, len(plan) - 1, _LOOKED_INTO).astype(int))
    order, content = hashlib.sha256(), hashlib.sha256()
    for indices in plan:
        order.update(np.asarray(indices, dtype=np.int64).tobytes() + b";")
    # A transform that draws random numbers is to draw the same ones each time, and leave those of training alone.
    with torch.random.fork_rng(), as_at_first(batches):
        torch.manual_seed(0)
        for number in chosen:
            _digest(batches.units(plan[number]), content)
    return {"batches": len(plan), "order": order.hexdigest(), "content": content.hexdigest()}


def difference(was: Any, now: Any, name: str = "") -> str | None:
    """The first thing that differs between two fingerprints, in words; None if nothing does.

    Examples
    --------
    >>> from stgraph.training.fingerprint import difference
    >>> difference({"trainer": {"lr": 0.1}}, {"trainer": {"lr": 0.2}})
    'its trainer.lr is 0.1, not 0.2'
    """
    if isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
        was, now = dict(enumerate(was)), dict(enumerate(now))
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys([*was, *now]):
            found = difference(was.get(key), now.get(key), f"{name}.{key}" if name else str(key))
            if found:
                return found
        return None
    if was == now:
        return None
    if isinstance(was, list) and isinstance(now, list):
        return f"its {name} are {len(was)}, not {len(now)}"
    return _IN_WORDS.get(name, f"its {name} is {was!r}, not {now!r}")


def _digest(value: Any, into: "hashlib._Hash") -> None:
    """Add whatever a batch is made of to a hash."""
    if isinstance(value, HeteroData):
        value = value.to_dict()
    if isinstance(value, Tensor):
        value = value.detach().cpu().contiguous()
        into.update(f"{value.dtype}{tuple(value.shape)}".encode())
        # A copy, for an empty tensor may have strides that no view of bytes can.
        flat = torch.empty(value.numel(), dtype=value.dtype).copy_(value.flatten())
        into.update(flat.view(torch.uint8).numpy().tobytes())
    elif isinstance(value, np.ndarray):
        _digest(torch.from_numpy(np.ascontiguousarray(value)), into)
    elif isinstance(value, Mapping):
        for key in sorted(value, key=str):
            into.update(str(key).encode())
            _digest(value[key], into)
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        for item in value:
            _digest(item, into)
    elif is_dataclass(value):
        for field in fields(value):
            into.update(field.name.encode())
            _digest(getattr(value, field.name), into)
    elif value is None or isinstance(value, str | int | float | bool):
        into.update(repr(value).encode())
