"""Processes that train together, by Lightning Fabric."""

import os
from typing import Literal

import torch
from lightning.fabric import Fabric
from torch import Tensor

from stgraph.errors import InputError

Strategy = Literal["auto", "ddp"]

Precision = Literal["32-true", "bf16-mixed", "16-mixed", "auto"]


def resolved(precision: Precision, accelerator: str) -> Precision:
    """``"auto"`` is bfloat16 on a GPU that computes in it, and single precision elsewhere, where it is no faster.

    Examples
    --------
    >>> from stgraph.training.distributed import resolved
    >>> resolved("auto", "cpu"), resolved("16-mixed", "cpu")
    ('32-true', '16-mixed')
    """
    if precision != "auto":
        return precision
    helps = accelerator != "cpu" and torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    return "bf16-mixed" if helps else "32-true"


def make_fabric(
    *,
    accelerator: str = "auto",
    devices: int = 1,
    num_nodes: int = 1,
    strategy: Strategy = "auto",
    precision: str = "32-true",
) -> Fabric:
    """The Fabric of this process, one of ``devices * num_nodes``, connected to the others.

    Parameters
    ----------
    accelerator, devices, num_nodes, precision
        As of `lightning.fabric.Fabric`.
    strategy
        What several processes do: ``"auto"`` is distributed data parallel where a network
        may have parameters that a batch does not need; ``"ddp"``, a little faster, is
        without such.

    Returns
    -------
    Fabric
        Launched.

    Raises
    ------
    InputError
        If this machine cannot, or the processes are not there.
    """
    num_processes = devices * num_nodes
    started = int(os.environ.get("WORLD_SIZE", "1")) if "TORCHELASTIC_RUN_ID" in os.environ else num_processes
    if started != num_processes:
        raise InputError(
            f"torchrun started {started} processes, but trainer.devices * trainer.num_nodes is {num_processes}: "
            "let them agree."
        )
    chosen = "auto" if num_processes == 1 else "ddp_find_unused_parameters_true" if strategy == "auto" else strategy
    try:
        fabric = Fabric(
            accelerator=accelerator, devices=devices, num_nodes=num_nodes, strategy=chosen, precision=precision
        )
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"This machine cannot train with accelerator '{accelerator}' (--device) and precision "
            f"'{precision}': {error}"
        ) from error
    if num_processes > 1:
        _check_started(fabric, devices, num_nodes)
        fabric.launch()
    return fabric


def first_process() -> bool:
    """Whether this process is the one that writes, of those that torchrun started."""
    return int(os.environ.get("RANK", "0")) == 0


def one_process() -> bool:
    """Whether torchrun started no other."""
    return int(os.environ.get("WORLD_SIZE", "1")) == 1


def summed(fabric: Fabric, values: Tensor) -> Tensor:
    """Values added up over all processes."""
    if fabric.world_size == 1:
        return values
    total: Tensor = fabric.all_reduce(values, reduce_op="sum")
    return total


def device_state(device: torch.device) -> Tensor | None:
    """State of the random numbers of a device; None for the CPU, whose state is torch's own."""
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else None


def _check_started(fabric: Fabric, devices: int, num_nodes: int) -> None:
    """Fabric would start the others by running this whole program again, from within."""
    if not fabric.strategy.cluster_environment.creates_processes_externally:
        raise InputError(
            f"trainer.devices={devices} and trainer.num_nodes={num_nodes} need as many processes: start the program "
            f"with torchrun --nproc-per-node {devices} --nnodes {num_nodes}."
        )
