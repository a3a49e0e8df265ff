"""A distance bias of your own, or another of ours, for a model."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from stgraph._config import instantiate
from stgraph.errors import InputError
from stgraph.nn.module_config import module_config, new_like


def make_bias(bias: nn.Module | Mapping[str, Any], heads: int, num_edge_types: int) -> nn.Module:
    """A bias like the one given, with weights of its own.

    Parameters
    ----------
    bias
        A `DistanceBias`, whose class and arguments are taken, not its weights; or a config of one,
        ``{"_target_": "stgraph.nn.distance_bias.NoBias", "heads": 4}``.
    heads, num_edge_types
        H of the model it is meant for, and the types of edges it has.

    Returns
    -------
    Module
        A new one.

    Raises
    ------
    InputError
        If it is neither, cannot be built again, or is made for other heads or fewer types.

    Examples
    --------
    >>> from stgraph.nn.distance_bias import NoBias
    >>> from stgraph.nn.distance_bias.choice import make_bias
    >>> make_bias(NoBias(heads=4), heads=4, num_edge_types=4).heads
    4
    """
    made: Any = new_like(bias) if isinstance(bias, nn.Module) else None
    if isinstance(bias, Mapping):
        made = instantiate(module_config(bias))
    if not isinstance(made, nn.Module) or not hasattr(made, "heads") or not hasattr(made, "num_edge_types"):
        raise InputError(
            "A distance bias is a torch.nn.Module with heads and num_edge_types, or a config with the _target_ of one, "
            f"as those in stgraph.nn.distance_bias are; {bias!r} is none."
        )
    who = type(made).__name__
    if made.heads != heads:
        raise InputError(f"The distance bias {who} has {made.heads} heads, but the model has {heads}.")
    types: Any = made.num_edge_types
    if types is not None and types < num_edge_types:
        raise InputError(
            f"The distance bias {who} tells {types} types of edges apart, but the model has {num_edge_types}."
        )
    return made
