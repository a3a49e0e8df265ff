"""A network and its orthologs as named arrays: what the encoders that have a network keep of themselves."""

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from stgraph.errors import InputError
from stgraph.nn.module_config import module_config
from stgraph.preprocess.named_arrays import bytes_to_genes, check_names, genes_to_bytes
from stgraph.preprocess.orthologs import Orthologs
from stgraph.training.checkpoint import load_weights

_NETWORK = "network."

Network = TypeVar("Network", bound=nn.Module)


def network_state(
    network: nn.Module, orthologs: Orthologs | None, names: Mapping[str, NDArray[Any]], prefix: str
) -> dict[str, NDArray[Any]]:
    """Weights and config of a network, orthologs, and the names of its genes.

    Parameters
    ----------
    network
        Its arrays are copied, for it may be trained on.
    orthologs
        None for none.
    names
        State of its vocabulary or gene list.
    prefix
        Put before the names of that.

    Returns
    -------
    dict of ndarray
        By name, for `read_network_state`.
    """
    ids = {} if orthologs is None else orthologs.ids
    return {
        "config": np.frombuffer(json.dumps(module_config(network)).encode(), dtype=np.uint8).copy(),
        "orthologs": genes_to_bytes([name for pair in ids.items() for name in pair]),
        **{prefix + name: array for name, array in names.items()},
        **{_NETWORK + name: tensor.cpu().numpy().copy() for name, tensor in network.state_dict().items()},
    }


def read_network_state(
    owner: object, state: Mapping[str, NDArray[Any]], prefix: str, build: Callable[[dict[str, Any]], Network]
) -> tuple[Network, Orthologs | None, dict[str, NDArray[Any]]]:
    """Take apart what `network_state` gave.

    Parameters
    ----------
    owner
        Whose state it is, for the messages.
    state
        The arrays.
    prefix
        As it was given.
    build
        Makes a network of its config, whose weights are then replaced.

    Returns
    -------
    network : Module
    orthologs : Orthologs or None
    names : dict of ndarray
        State of the vocabulary or gene list.

    Raises
    ------
    InputError
        If an array is missing or unknown, or the config cannot be read.
    CheckpointError
        If weights are missing or do not fit.
    """
    own = {name for name in state if not name.startswith((_NETWORK, prefix))}
    check_names(owner, dict.fromkeys(own, np.empty(0)), {"config", "orthologs"})
    who = type(owner).__name__
    try:
        config = dict(json.loads(state["config"].tobytes()))
    except (ValueError, TypeError) as error:
        raise InputError(f"The state of {who} does not say how its network is built ({error}).") from error
    names = bytes_to_genes(state["orthologs"]) if len(state["orthologs"]) else []
    orthologs = Orthologs(dict(zip(names[::2], names[1::2], strict=True))) if names else None
    network = build(config)
    weights = {key: torch.from_numpy(np.ascontiguousarray(array)) for key, array in _below(state, _NETWORK).items()}
    load_weights(network, weights, name=who)
    return network, orthologs, _below(state, prefix)


def _below(state: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    return {name.removeprefix(prefix): array for name, array in state.items() if name.startswith(prefix)}
