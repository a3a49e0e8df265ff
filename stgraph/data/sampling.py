"""Neighbour sampling (GraphSAGE, Hamilton et al. 2017) without native extras of PyG.

`NeighborLoader` takes what PyG's takes and gives what PyG's gives, where PyG needs
pyg-lib or torch-sparse for it. PyG's own `NodeLoader` does the loading; what is new here
is the sampler, on numba.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import Data, HeteroData
from torch_geometric.loader import NodeLoader
from torch_geometric.sampler import BaseSampler, HeteroSamplerOutput, NodeSamplerInput, SamplerOutput

from stgraph.data.edge_types import EdgeType
from stgraph.data.sampling_kernels import induced_edges, sample_neighbors
from stgraph.errors import InputError

Fanout = Sequence[int] | Mapping[EdgeType, Sequence[int]]
"""Edges drawn at a node in each hop, -1 for all; the same for all edge types, or by edge type."""


class NeighborLoader(NodeLoader):  # type: ignore[misc]
    """Mini-batches of seed nodes with sampled neighbours; the call of PyG's ``NeighborLoader``.

    Beginning with the seeds of a batch, each hop draws edges that end at the nodes the
    hop before has added, each subset of a node's edges being equally likely.

    Draws come from ``generator`` if it is given, otherwise from torch's global one, so
    that ``torch.manual_seed`` decides. Workers are seeded by the loader from the same
    source: the same seed and number of workers give the same batches.

    Parameters
    ----------
    data
        A `Data` or `HeteroData` on the CPU.
    num_neighbors
        For each hop, most edges drawn at a node, -1 for all: a list, for every edge type
        alike, or a dict of such lists, of the same length, for each edge type.
    input_nodes
        Seeds: None for all nodes, an index or a mask; for `HeteroData` the name of a node
        type, or the name and one of these.
    replace
        Whether an edge may be drawn more than once.
    subgraph_type
        ``"directional"``: the edges drawn; ``"induced"``: all edges between the nodes.
    transform
        Called with each batch.
    transform_sampler_output
        Called with what was drawn, before features are looked up.
    is_sorted
        There for PyG's sake: whether edges are sorted by target is seen, and then they
        are not sorted again.
    filter_per_worker
        As in PyG.
    input_time, disjoint, temporal_strategy, time_attr, weight_attr, neighbor_sampler
        There to be refused: sampling in time, by weight and in disjoint trees is not
        offered here.
    **kwargs
        Of `torch.utils.data.DataLoader`: ``batch_size``, ``shuffle``, ``num_workers``,
        ``generator``, ...

    Yields
    ------
    Data or HeteroData
        The nodes drawn, seeds first and in their order, and the edges, sorted by target;
        every attribute of nodes and edges with them. Also ``n_id`` and ``e_id``, the
        nodes and edges in ``data``; ``num_sampled_nodes`` and ``num_sampled_edges``, how
        many each hop added (the latter not for ``"induced"``, whose edges are of no hop);
        and for the seeds ``input_id`` and ``batch_size``.

    Raises
    ------
    InputError
        If an option is not offered, or does not fit the data.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.data.convert import to_hetero_data
    >>> from stgraph.data.sampling import NeighborLoader
    >>> data = to_hetero_data(stgraph.build_graph(stgraph.synthetic_tissue(n_cells=200, n_genes=60)[0]))
    >>> loader = NeighborLoader(data, num_neighbors=[5, 5], input_nodes="cell", batch_size=16)
    >>> batch = next(iter(loader))
    >>> len(loader), batch["cell"].batch_size, batch["cell"].n_id[:3].tolist()
    (13, 16, [0, 1, 2])
    """

    def __init__(
        self,
        data: Data | HeteroData,
        num_neighbors: Fanout,
        input_nodes: Any = None,
        input_time: Tensor | None = None,
        replace: bool = False,
        subgraph_type: str = "directional",
        disjoint: bool = False,
        temporal_strategy: str = "uniform",
        time_attr: str | None = None,
        weight_attr: str | None = None,
        transform: Callable[[Any], Any] | None = None,
        transform_sampler_output: Callable[[Any], Any] | None = None,
        is_sorted: bool = False,
        filter_per_worker: bool | None = None,
        neighbor_sampler: Any = None,
        **kwargs: Any,
    ) -> None:
        refused = {
            "input_time": input_time is not None,
            "disjoint": disjoint,
            "temporal_strategy": temporal_strategy != "uniform",
            "time_attr": time_attr is not None,
            "weight_attr": weight_attr is not None,
            "neighbor_sampler": neighbor_sampler is not None,
        }
        for name in (name for name, given in refused.items() if given):
            raise InputError(f"This NeighborLoader does not offer '{name}': leave it out, or use PyG's with pyg-lib.")
        sampler = NeighborSampler(
            data,
            num_neighbors,
            replace=replace,
            subgraph_type=str(getattr(subgraph_type, "value", subgraph_type)),
            generator=kwargs.get("generator"),
        )
        super().__init__(
            data,
            sampler,
            input_nodes=_checked_seeds(data, input_nodes),
            transform=transform,
            transform_sampler_output=transform_sampler_output,
            filter_per_worker=filter_per_worker,
            **kwargs,
        )


@dataclass(frozen=True)
class _Csc:
    """Edges of one type by target; ``order`` leads from here to the edges as they were, None for no change."""

    source: Any
    target: Any
    colptr: NDArray[np.int64]
    row: NDArray[np.int64]
    order: NDArray[np.int64] | None


class NeighborSampler(BaseSampler):  # type: ignore[misc]
    """Draws neighbours for `NeighborLoader`.

    Parameters
    ----------
    data, num_neighbors, replace, subgraph_type
        As in `NeighborLoader`.
    generator
        Source of randomness outside workers; None for torch's global one.
    """

    def __init__(
        self,
        data: Data | HeteroData,
        num_neighbors: Fanout,
        *,
        replace: bool = False,
        subgraph_type: str = "directional",
        generator: torch.Generator | None = None,
    ) -> None:
        if subgraph_type not in ("directional", "induced"):
            raise InputError(f"subgraph_type must be 'directional' or 'induced' here, not '{subgraph_type}'.")
        self.replace = replace
        self.subgraph_type = subgraph_type
        self.generator = generator
        self._hetero = isinstance(data, HeteroData)
        stores = {store._key: store for store in data.edge_stores} if self._hetero else {None: data}
        self._num_nodes = {t: data[t].num_nodes for t in data.node_types} if self._hetero else {None: data.num_nodes}
        self._csc = {key: _to_csc(key, store, self._num_nodes) for key, store in stores.items()}
        self._fanout, self._num_hops = _checked_fanout(num_neighbors, list(stores))
        # Local numbers of the nodes of a batch; kept between batches, for a slice may have a million cells.
        self._local = {kind: np.full(count, -1, dtype=np.int64) for kind, count in self._num_nodes.items()}

    def sample_from_nodes(self, index: NodeSamplerInput, **kwargs: Any) -> SamplerOutput | HeteroSamplerOutput:
        """Draw the neighbourhood of some seeds."""
        nodes: dict[Any, list[NDArray[np.int64]]] = {kind: [] for kind in self._num_nodes}
        try:
            edges, num_nodes, num_edges = self._draw(nodes, index)
        finally:
            for kind, pieces in nodes.items():
                for piece in pieces:
                    self._local[kind][piece] = -1
        node = {kind: _tensor(_joined(pieces)) for kind, pieces in nodes.items()}
        row, col, edge = ({key: _tensor(edges[key][i]) for key in edges} for i in range(3))
        metadata = (index.input_id, index.time)
        by_hop = self.subgraph_type == "directional"  # edges between all the nodes are of no hop
        if self._hetero:
            return HeteroSamplerOutput(
                node,
                row,
                col,
                edge,
                num_sampled_nodes=num_nodes,
                num_sampled_edges=num_edges if by_hop else None,
                metadata=metadata,
            )
        return SamplerOutput(
            node[None],
            row[None],
            col[None],
            edge[None],
            num_sampled_nodes=num_nodes[None],
            num_sampled_edges=num_edges[None] if by_hop else None,
            metadata=metadata,
        )

    def sample_from_edges(self, index: Any, neg_sampling: Any = None) -> Any:
        """Seeds are nodes here."""
        raise InputError("This sampler draws the neighbours of nodes; for edges as seeds use PyG's with pyg-lib.")

    def _draw(
        self, nodes: dict[Any, list[NDArray[np.int64]]], index: NodeSamplerInput
    ) -> tuple[dict[Any, list[NDArray[np.int64]]], dict[Any, list[int]], dict[Any, list[int]]]:
        """Fill ``nodes`` hop by hop; edges as (source, target, number) and the sizes of the hops."""
        state = self._state()
        seeds = index.node.numpy().astype(np.int64)
        # Backwards, so that of a seed given twice the first one has the number.
        self._local[index.input_type][seeds[::-1]] = np.arange(len(seeds))[::-1]
        nodes[index.input_type].append(seeds)
        known = {kind: len(_joined(pieces)) for kind, pieces in nodes.items()}
        frontier = {kind: (0, _joined(pieces)) for kind, pieces in nodes.items()}
        num_nodes = {kind: [count] for kind, count in known.items()}
        num_edges: dict[Any, list[int]] = {key: [] for key in self._csc}
        drawn: dict[Any, list[tuple[NDArray[np.int64], ...]]] = {key: [] for key in self._csc}
        for hop in range(self._num_hops):
            before = dict(known)
            added: dict[Any, list[NDArray[np.int64]]] = {kind: [] for kind in nodes}
            for key, csc in self._csc.items():
                first, targets = frontier[csc.target]
                count = self._fanout[key][hop]
                *edges, new = sample_neighbors(
                    csc.colptr, csc.row, targets, first, count, self.replace,
                    self._local[csc.source], known[csc.source], state,
                )  # fmt: skip
                nodes[csc.source].append(new)
                added[csc.source].append(new)
                known[csc.source] += len(new)
                drawn[key].append(tuple(edges))
                num_edges[key].append(len(edges[0]))
            frontier = {kind: (before[kind], _joined(pieces)) for kind, pieces in added.items()}
            for kind, (_, found) in frontier.items():
                num_nodes[kind].append(len(found))
        if self.subgraph_type == "induced":
            for key, csc in self._csc.items():
                drawn[key] = [induced_edges(csc.colptr, csc.row, _joined(nodes[csc.target]), self._local[csc.source])]
        out = {key: [_joined([piece[i] for piece in pieces]) for i in range(3)] for key, pieces in drawn.items()}
        for key, csc in self._csc.items():
            if csc.order is not None:
                out[key][2] = csc.order[out[key][2]]
        return out, num_nodes, num_edges

    def _state(self) -> NDArray[np.uint64]:
        # A worker has a copy of the generator, the same in every epoch; its global one is seeded by the loader.
        generator = self.generator if torch.utils.data.get_worker_info() is None else None
        return np.array([int(torch.randint(2**62, (), generator=generator))], dtype=np.uint64)


def _to_csc(key: Any, store: Any, num_nodes: Mapping[Any, int]) -> _Csc:
    source, _, target = (None, None, None) if key is None else key
    if "edge_index" not in store:
        raise InputError(f"The edges {'' if key is None else key} have no edge_index, and no other form is read here.")
    if store.edge_index.device.type != "cpu":
        raise InputError("NeighborLoader samples on the CPU: give it data.cpu(), and move the batches instead.")
    row, col = (side.numpy().astype(np.int64, copy=False) for side in store.edge_index)
    for side, kind, name in ((row, source, "source"), (col, target, "target")):
        if len(side) and not (side.min() >= 0 and side.max() < num_nodes[kind]):
            raise InputError(f"The edges {'' if key is None else key} name a {name} that is no node of the data.")
    order = None
    if (np.diff(col) < 0).any():
        order = np.argsort(col, kind="stable")
        row = row[order]
    colptr = np.concatenate([[0], np.cumsum(np.bincount(col, minlength=num_nodes[target]))]).astype(np.int64)
    return _Csc(source, target, colptr, np.ascontiguousarray(row), order)


def _checked_fanout(num_neighbors: Fanout, keys: list[Any]) -> tuple[dict[Any, list[int]], int]:
    """Edges of a node in each hop for each edge type, and the number of hops."""
    if isinstance(num_neighbors, Mapping):
        if set(num_neighbors) != set(keys) or keys == [None]:
            missing, unknown = set(keys) - set(num_neighbors), set(num_neighbors) - set(keys)
            raise InputError(
                f"num_neighbors must name every edge type of the data: {missing or 'none'} missing, "
                f"{unknown or 'none'} unknown."
            )
        fanout = {key: list(num_neighbors[key]) for key in keys}
    elif isinstance(num_neighbors, Iterable):
        fanout = {key: list(num_neighbors) for key in keys}
    else:
        raise InputError(f"num_neighbors must be a list with a number for each hop, not {num_neighbors!r}.")
    hops = {len(counts) for counts in fanout.values()}
    if len(hops) != 1 or hops == {0}:
        raise InputError("num_neighbors must have one number for each hop, at least one, for all edge types as many.")
    for count in (count for counts in fanout.values() for count in counts):
        if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < -1:
            raise InputError(f"num_neighbors must be whole numbers of 0 or more, or -1 for all, not {count!r}.")
    return fanout, hops.pop()


def _checked_seeds(data: Data | HeteroData, input_nodes: Any) -> Any:
    if not isinstance(data, HeteroData):
        kind, nodes, count = None, input_nodes, data.num_nodes
    else:
        pair = isinstance(input_nodes, tuple | list) and len(input_nodes) == 2
        kind, nodes = input_nodes if pair else (input_nodes, None)
        if not isinstance(kind, str) or kind not in data.node_types:
            raise InputError(
                f"input_nodes must name a node type of the data ({', '.join(data.node_types)}), alone or with an "
                "index or a mask: input_nodes=('cell', mask)."
            )
        count = data[kind].num_nodes
    if nodes is not None:
        nodes = torch.as_tensor(nodes)
        if nodes.ndim != 1 or (nodes.dtype == torch.bool and len(nodes) != count) or nodes.is_floating_point():
            raise InputError(
                f"input_nodes must be an index or a mask of {count} nodes, not {nodes.dtype} of shape {nodes.shape}."
            )
        if nodes.dtype != torch.bool and len(nodes) and not 0 <= int(nodes.min()) <= int(nodes.max()) < count:
            raise InputError(f"input_nodes holds a number that is no node: there are {count}.")
    return nodes if kind is None else (kind, nodes)


def _joined(pieces: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(0, dtype=np.int64), *pieces])


def _tensor(array: NDArray[np.int64]) -> Tensor:
    return torch.from_numpy(array)
