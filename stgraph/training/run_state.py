"""Resume points: all that a run is in the middle of, in one file that is whole or not there.

Safetensors and JSON; no pickle is read.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from stgraph._files import atomic_path
from stgraph.errors import CheckpointError, InputError
from stgraph.training.fingerprint import Fingerprint, difference
from stgraph.training.records import Record

RESUME_POINT = "resume.safetensors"
"""Name of the file in the folder of a run."""

_MAKING = ".resume.tmp"

_FORMAT_VERSION = 1


class OtherRunError(InputError):
    """A resume point is of a run with other settings, model or data."""


@dataclass
class RunState:
    """Where a run is.

    Attributes
    ----------
    epoch
        The epoch it is in, counted from 1.
    position
        Steps of that epoch that are done.
    history
        A record for each step.
    done
        Whether training has ended.
    tensors
        By group, such as ``"model"`` and ``"optimizer"``, and name.
    scaler
        State of the scaler of 16-bit gradients; empty without one.
    """

    epoch: int = 1
    position: int = 0
    history: list[Record] = field(default_factory=list)
    done: bool = False
    tensors: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    scaler: dict[str, Any] = field(default_factory=dict)


def write_state(folder: Path, state: RunState, run: Fingerprint) -> None:
    """Write a resume point in place of the one before.

    Parameters
    ----------
    folder
        Of the run; made if needed.
    state
        What to keep.
    run
        Which run it is.
    """
    # Columns of numbers, for a long history takes long to write as text.
    names = list(state.history[0]) if state.history else []
    columns = {name: torch.tensor([r[name] for r in state.history], dtype=torch.float64) for name in names}
    # Copied, for tensors that share memory cannot be written; weights may be tied.
    flat = {
        f"{group}/{name}": tensor.detach().cpu().clone().contiguous()
        for group, tensors in {**state.tensors, "history": columns}.items()
        for name, tensor in tensors.items()
    }
    said = json.dumps(
        {
            "epoch": state.epoch,
            "position": state.position,
            "done": state.done,
            "scaler": state.scaler,
            "history": names,
            "run": run,
        }
    )
    metadata = {"format_version": str(_FORMAT_VERSION), "state": said, "sha256": _sha256(said, flat)}
    # In a folder of its own, in which whoever is killed may leave what he likes, as safetensors does.
    making = Path(folder) / _MAKING
    shutil.rmtree(making, ignore_errors=True)
    try:
        with atomic_path(making / RESUME_POINT) as tmp:
            save_file(flat, tmp, metadata=metadata)
        (making / RESUME_POINT).replace(Path(folder) / RESUME_POINT)
    finally:
        shutil.rmtree(making, ignore_errors=True)


def read_state(folder: Path, run: Fingerprint) -> RunState | None:
    """Read the resume point of a run.

    Parameters
    ----------
    folder
        Where `write_state` wrote it.
    run
        Which run it is to be.

    Returns
    -------
    RunState or None
        None if there is none.

    Raises
    ------
    CheckpointError
        If the file is damaged, or of another version.
    OtherRunError
        If it is of another run; the message says what differs.
    """
    path = Path(folder) / RESUME_POINT
    if not path.exists():
        return None
    said, flat = _read(path)
    differs = difference(said["run"], json.loads(json.dumps(run)))
    if differs:
        raise OtherRunError(
            f"'{path}' is of another run, for {differs}: go on with the same settings and data, or begin anew in "
            "another folder."
        )
    tensors: dict[str, dict[str, Tensor]] = {}
    for key, tensor in flat.items():
        group, _, name = key.partition("/")
        tensors.setdefault(group, {})[name] = tensor
    columns = tensors.pop("history", {})
    rows = zip(*(columns[name].tolist() for name in said["history"]), strict=True)
    history = [dict(zip(said["history"], row, strict=True)) for row in rows]
    for record in history:
        record |= {"step": int(record["step"]), "epoch": int(record["epoch"])}
    return RunState(said["epoch"], said["position"], history, said["done"], tensors, said["scaler"])


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Content of a resume point, checked."""
    damaged = f"The resume point '{path}' is damaged: delete it to begin anew"
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            flat = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - it is no dict
    except SafetensorError as error:
        raise CheckpointError(f"{damaged} ({error}).") from error
    version = metadata.get("format_version")
    if "state" in metadata and version != str(_FORMAT_VERSION):
        raise CheckpointError(
            f"The resume point '{path}' has format version {version}, not {_FORMAT_VERSION}: go on with the stgraph "
            "that wrote it."
        )
    if "state" not in metadata or metadata.get("sha256") != _sha256(metadata["state"], flat):
        raise CheckpointError(f"{damaged}.")
    said: dict[str, Any] = json.loads(metadata["state"])
    return said, flat


def _sha256(said: str, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(said.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
