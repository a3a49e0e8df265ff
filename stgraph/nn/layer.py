"""What a layer of a graph transformer is, and how one of your own gets into a model."""

import warnings
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from stgraph._config import instantiate
from stgraph.errors import InputError, StgraphWarning
from stgraph.nn.edge_attention import EdgeGraph
from stgraph.nn.module_config import module_config, new_like


class GraphLayer(Protocol):
    """A `torch.nn.Module` that passes messages along the edges of a graph, once.

    `stgraph.nn.se2_block.SE2Block` is one, `stgraph.nn.conv` makes one of any convolution
    of PyG or DGL, and yours is one with this ``forward``; nothing has to be inherited or
    registered. What holds for a layer beside the shapes is a test you can inherit:
    `stgraph.testing.layers.GraphLayerContract`.
    """

    def forward(self, x: Tensor, graph: EdgeGraph, pair: Tensor) -> tuple[Tensor, Tensor]:
        """New node states and new pair state.

        Parameters
        ----------
        x
            (N, C) states of the nodes: cells, virtual cells, and queries, of all slices of
            a batch. Nothing tells a layer which is which, and nothing should.
        graph
            The E edges, sorted by target. ``row`` and ``col`` (E,) are target and source of
            each: node ``row[e]`` hears from node ``col[e]``. ``ptr`` (N + 1,) is where the
            edges of each target begin. ``distance`` (E,) is in spacings, multiples of the
            median distance of a cell to its nearest neighbour; ``edge_type`` (E,) is a number
            below 4: cell-cell, virtual-cell, virtual-virtual, self. Cells and virtual cells
            have an edge to themselves, queries have not. A node may have no edge at all.
        pair
            (E, H) pair state, in the order of the edges. In the first layer it is a learned
            function of distance and edge type; the last one's is what the model tells
            distances from. A layer that has no use for it returns it as it is.

        Returns
        -------
        x : Tensor
            (N, C). What a node gets depends on itself and on the sources of its edges alone:
            then a part with as many hops of halo as there are layers gives the numbers of
            the whole slice.
        pair : Tensor
            (E, H). What an edge gets depends on its two ends and itself alone.
        """
        ...


def make_layers(layer: nn.Module | Mapping[str, Any], number: int, channels: int, heads: int) -> list[nn.Module]:
    """Layers like one, each with random weights of its own.

    Each is tried on a graph of four nodes.

    Parameters
    ----------
    layer
        A `GraphLayer`, whose class and arguments are taken, not its weights; or a config,
        ``{"_target_": "mylab.layers.MyLayer", ...}``.
    number
        How many.
    channels, heads
        C and H of the model they are meant for.

    Returns
    -------
    list of Module
        All new.

    Raises
    ------
    InputError
        If it is neither, cannot be built again, or cannot take or does not give states and
        pair states of this width.

    Warns
    -----
    StgraphWarning
        If a node hears from beyond its own edges.

    Examples
    --------
    >>> from stgraph.nn.layer import make_layers
    >>> from stgraph.nn.se2_block import SE2Block
    >>> first, second = make_layers(SE2Block(8, heads=2, ffn_channels=8), 2, channels=8, heads=2)
    >>> bool((first.qkv.weight == second.qkv.weight).all())
    False
    """
    made: list[Any] = [layer]
    if isinstance(layer, nn.Module):
        made = [new_like(layer) for _ in range(number)]
    elif isinstance(layer, Mapping):
        config = module_config(layer)  # an object that stands in it must not be shared
        made = [instantiate(config) for _ in range(number)]
    if wrong := [one for one in made if not isinstance(one, nn.Module)]:
        raise InputError(
            f"A layer is a torch.nn.Module, or a config with the _target_ of one, not {wrong[0]!r}: "
            "give an object, as in layer=MyLayer(channels=64)."
        )
    exact = [_hears_own_edges_only(one, channels, heads) for one in made]  # every one: PyG's may be lazy
    if not all(exact):
        warnings.warn(
            f"In the layer {type(made[0]).__name__} a node hears from "
            "beyond its own edges: embeddings of slices that are embedded part by part will depend on the parts.",
            StgraphWarning,
            stacklevel=3,
        )
    return made


@torch.no_grad()
def _hears_own_edges_only(layer: nn.Module, channels: int, heads: int) -> bool:
    """Try a layer; whether what happens beyond the edges of a node is no matter to it."""
    name = type(layer).__name__
    own = getattr(layer, "channels", channels)
    if isinstance(own, int) and own != channels:
        raise InputError(f"The layer {name} has {own} channels and the model {channels}: set hidden_channels to {own}.")
    # Nodes 0 <- 1 <- 2, with edges to themselves, and 3, alone.
    row, col = torch.tensor([0, 0, 1, 1, 2]), torch.tensor([0, 1, 1, 2, 2])
    generator = torch.Generator().manual_seed(0)
    x, pair = torch.randn(4, channels, generator=generator), torch.randn(5, heads, generator=generator)
    training = layer.training
    layer.eval()
    try:
        out = layer(x, _graph(row, col), pair)
        # What happens at node 2, and whether 1 hears of it, is no business of 0.
        kept = torch.tensor([0, 1, 4])
        far = layer(torch.cat([x[:2], 1 - x[2:]]), _graph(row[kept], col[kept]), pair[kept])
    except Exception as error:
        # Whatever a foreign class raises: what the user can mend is that it does not fit.
        reason = " ".join(str(error).split())
        raise InputError(
            f"The layer {name} cannot run on states of {channels} channels (hidden_channels) and pair states of "
            f"{heads} heads, on a graph where a node has no edges: {reason}"
        ) from error
    finally:
        layer.train(training)
    shapes = [tuple(each.shape) for each in out] if isinstance(out, tuple) and len(out) == 2 else type(out).__name__
    if shapes != [(4, channels), (5, heads)]:
        raise InputError(
            f"The layer {name} must give node states and pair states of the shape it was given, "
            f"{[(4, channels), (5, heads)]} for 4 nodes and 5 edges, not {shapes}: do its channels agree with "
            "hidden_channels, and its heads with heads?"
        )
    return torch.allclose(out[0][0], far[0][0], atol=1e-4)


def _graph(row: Tensor, col: Tensor) -> EdgeGraph:
    types = torch.where(row == col, 3, 0)
    return EdgeGraph.from_edges(4, row, col, (row != col).float(), types)[0]
