"""Values on a table of knots along the distance, interpolated for each edge."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stgraph.nn.forward_mode import refuse_tangents
from stgraph.nn.table_lookup_kernels import kernels
from stgraph.nn.threads import in_threads

CELLS_PER_OCTAVE = 64
"""Cells between ``1 + distance`` and its double."""

_EDGES_PER_CHUNK = 4096
_MOST_TABLES = 16
"""Tables that gradients are added to side by side; a constant, for sums must not depend on the number of threads."""


def cell_of(distance: Tensor) -> Tensor:
    """(E,) int64, the cell each distance lies in: as wide as 1 + distance is large, 1/64 of its power of two."""
    mantissa, exponent = torch.frexp(distance + 1)
    return (exponent.long() - 1) * CELLS_PER_OCTAVE + ((2 * mantissa - 1) * CELLS_PER_OCTAVE).long()


def cell_bounds(num_cells: int, like: Tensor) -> Tensor:
    """(J + 1,) where each of J cells begins and the last one ends, in the type and on the device of ``like``."""
    cell = torch.arange(num_cells + 1, device=like.device)
    octave = torch.div(cell, CELLS_PER_OCTAVE, rounding_mode="floor").to(like.dtype)
    return torch.exp2(octave) * (1 + (cell % CELLS_PER_OCTAVE).to(like.dtype) / CELLS_PER_OCTAVE) - 1


@dataclass(frozen=True)
class KnotGrid:
    """Where the knots of a table lie: evenly within each cell, more of them where the function bends.

    The rows of a table are, for one edge type after the other, the value at distance 0, which stands for itself,
    and then the knots from just above 0 on.

    Attributes
    ----------
    first
        (T, J + 1) int64, row of the knot at which each of the J cells begins.
    left
        (J + 1,) distance of that knot; see `cell_bounds`.
    """

    first: Tensor
    left: Tensor

    @classmethod
    def from_counts(cls, counts: Tensor, left: Tensor) -> "KnotGrid":
        """Grid of cells that are divided into (T, J) ``counts`` of intervals.

        Examples
        --------
        >>> import torch
        >>> from stgraph.nn.table_lookup import KnotGrid, cell_bounds
        >>> left = cell_bounds(2, torch.zeros(()))
        >>> KnotGrid.from_counts(torch.tensor([[1, 2]]), left).points[0].tolist()
        [0.0, 9.999999682655225e-21, 0.015625, 0.0234375, 0.03125]
        """
        rows = counts.sum(1) + 2  # and the value at 0, and the last knot
        begin = rows.cumsum(0) - rows + 1
        within = torch.cat([counts.new_zeros(len(counts), 1), counts.cumsum(1)], dim=1)
        return cls(begin[:, None] + within, left)

    @property
    def num_rows(self) -> int:
        """Rows of the table."""
        return int(self.first[-1, -1]) + 1

    @property
    def points(self) -> tuple[Tensor, Tensor]:
        """Distance and edge type of each row of the table."""
        types, cells = self.first.shape[0], self.first.shape[1] - 1
        count = self.first.diff(dim=1)
        cell = torch.arange(cells, device=count.device).repeat(types).repeat_interleave(count.flatten())
        begin = self.first[:, :-1].flatten().repeat_interleave(count.flatten())
        of_cell = count.flatten().repeat_interleave(count.flatten())
        edge_type = torch.arange(types, device=count.device).repeat_interleave(count.sum(1))
        # Rows of the last knot and of zero are none of a cell's
        row = torch.ones(self.num_rows, dtype=torch.bool, device=count.device)
        row[self.first[:, -1]] = False
        row[self.first[:, 0] - 1] = False
        row = row.nonzero()[:, 0]
        share = (row - begin).to(self.left.dtype) / of_cell
        distance = self.left.new_zeros(self.num_rows)
        distance[row] = torch.lerp(self.left[cell], self.left[cell + 1], share)
        distance[self.first[:, -1]] = self.left[-1]
        distance[self.first[:, 0]] = JUST_ABOVE_ZERO
        kind = edge_type.new_zeros(self.num_rows)
        kind[row] = edge_type
        kind[self.first[:, -1]] = kind[self.first[:, 0] - 1] = torch.arange(types, device=count.device)
        return distance, kind


JUST_ABOVE_ZERO = 1e-20
"""Where the first knot lies: a bias may be something else at 0, which is no distance but a sign that there is none."""


def table_lookup(table: Tensor, grid: KnotGrid, distance: Tensor, edge_type: Tensor | None) -> Tensor:
    """Interpolate a table linearly between its knots.

    On the CPU in float32 by compiled loops, in as many threads as torch has, with results that are the same to the
    bit for any number of them; otherwise by torch's own operators, which add up gradients in any order on a GPU.

    Parameters
    ----------
    table
        (M, H) values at ``grid.points``. Gradients go through to them.
    grid
        Of the table.
    distance
        (E,) from 0 to the last knot. Exactly 0 gets the value at 0, which is interpolated with nothing. Gradients go
        to it, too, if it wants them: the slope between two knots, and 0 at 0. (Not those of gradients, by compiled
        loops.)
    edge_type
        (E,) int64 from 0 to below T, or None for 0.

    Returns
    -------
    Tensor
        (E, H), in the type of the table.

    Raises
    ------
    ValueError
        If a distance or an edge type lies outside the table.

    Examples
    --------
    >>> import torch
    >>> from stgraph.nn.table_lookup import KnotGrid, cell_bounds, table_lookup
    >>> grid = KnotGrid.from_counts(torch.tensor([[1]]), cell_bounds(1, torch.zeros(())))
    >>> table = torch.tensor([[7.0], [1.0], [2.0]])
    >>> table_lookup(table, grid, torch.tensor([0.0, 1 / 128]), None).flatten()
    tensor([7.0000, 1.5000])
    """
    _check(grid, distance, edge_type)
    edge_type = None if edge_type is None else edge_type.long()
    if table.device.type == "cpu" and table.dtype == distance.dtype == torch.float32:
        refuse_tangents("The table of a distance bias", table, distance)
        found: Tensor = _lookup(table, distance, edge_type, grid.first, grid.left)
        return found
    return torch_lookup(table, grid, distance, edge_type)


def torch_lookup(table: Tensor, grid: KnotGrid, distance: Tensor, edge_type: Tensor | None) -> Tensor:
    """`table_lookup`, which documents the arguments, by torch's operators, on any device and in any type."""
    kind = torch.zeros_like(distance, dtype=torch.long) if edge_type is None else edge_type
    distance = distance.to(grid.left.dtype)
    cell = cell_of(distance.detach())
    begin = grid.first[kind, cell]
    count = grid.first[kind, cell + 1] - begin
    place = (distance - grid.left[cell]) / (grid.left[cell + 1] - grid.left[cell]) * count
    below = torch.minimum(place.detach().long().clamp_min(0), count - 1)
    share = (place - below).clamp(0, 1).to(table.dtype)
    at_zero = distance <= 0
    row = torch.where(at_zero, grid.first[kind, 0] - 1, begin + below)
    share = torch.where(at_zero, 0, share)[:, None]
    low = table.index_select(0, row)
    return low + share * (table.index_select(0, row + 1) - low)


def _check(grid: KnotGrid, distance: Tensor, edge_type: Tensor | None) -> None:
    if len(distance) == 0:
        return
    least, most = (float(x) for x in distance.detach().aminmax())
    if not (least >= 0 and most < float(grid.left[-1])):
        raise ValueError(
            f"Distances go from {least} to {most}, but the table from 0 to below {float(grid.left[-1])}: are there "
            "any that are negative or not a number?"
        )
    if edge_type is not None:
        least_type, most_type = (int(x) for x in edge_type.aminmax())
        if least_type < 0 or most_type >= len(grid.first):
            raise ValueError(
                f"Edge types go from {least_type} to {most_type}, but the table has {len(grid.first)}, from 0 on."
            )


@torch.library.custom_op("stgraph::table_lookup", mutates_args=(), device_types="cpu")
def _lookup(table: Tensor, distance: Tensor, edge_type: Tensor | None, first: Tensor, left: Tensor) -> Tensor:
    out = table.new_empty((len(distance), table.shape[1]))
    bounds = _chunks(len(distance), -(-len(distance) // _EDGES_PER_CHUNK))
    at = _places(distance, edge_type, first, left)
    in_threads(kernels(table.shape[1])[0], bounds, table.shape[1], bounds, *at, _numpy(table), _numpy(out))
    return out


@_lookup.register_fake
def _(table: Tensor, distance: Tensor, *_: Any) -> Tensor:
    return table.new_empty((distance.shape[0], table.shape[1]))


@torch.library.custom_op("stgraph::table_lookup_backward", mutates_args=(), device_types="cpu")
def _backward(
    table: Tensor, distance: Tensor, edge_type: Tensor | None, first: Tensor, left: Tensor, grad: Tensor
) -> Tensor:
    heads = table.shape[1]
    bounds = _chunks(len(distance), min(_MOST_TABLES, -(-len(distance) // (4 * _EDGES_PER_CHUNK))))
    tables = np.empty((len(bounds) - 1, *table.shape), np.float32)
    at = _places(distance, edge_type, first, left)
    in_threads(kernels(heads)[1], bounds, heads, bounds, *at, _numpy(grad), tables)
    for other in tables[1:]:
        tables[0] += other
    return torch.from_numpy(tables[0].copy())


@_backward.register_fake
def _(table: Tensor, *_: Any) -> Tensor:
    return table.new_empty(table.shape)


@torch.library.custom_op("stgraph::table_lookup_slopes", mutates_args=(), device_types="cpu")
def _slopes(
    table: Tensor, distance: Tensor, edge_type: Tensor | None, first: Tensor, left: Tensor, grad: Tensor
) -> Tensor:
    out = torch.empty_like(distance, memory_format=torch.contiguous_format)
    bounds = _chunks(len(distance), -(-len(distance) // _EDGES_PER_CHUNK))
    at = _places(distance, edge_type, first, left)
    of_distance = kernels(table.shape[1])[2]
    in_threads(of_distance, bounds, table.shape[1], bounds, *at, _numpy(table), _numpy(grad), _numpy(out))
    return out


@_slopes.register_fake
def _(table: Tensor, distance: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(distance, memory_format=torch.contiguous_format)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    of_table, of_distance = ctx.needs_input_grad[:2]
    return (
        _backward(*ctx.saved_tensors, grad) if of_table else None,
        _slopes(*ctx.saved_tensors, grad) if of_distance else None,
        None,
        None,
        None,
    )


_lookup.register_autograd(_gradients, setup_context=_keep)


def _chunks(num_edges: int, count: int) -> NDArray[np.int64]:
    return np.linspace(0, num_edges, max(count, 1) + 1).astype(np.int64)


def _places(distance: Tensor, edge_type: Tensor | None, first: Tensor, left: Tensor) -> tuple[Any, ...]:
    kind = np.empty(0, np.int64) if edge_type is None else _numpy(edge_type)
    return _numpy(distance), kind, edge_type is not None, _numpy(first), _numpy(left)


def _numpy(tensor: Tensor) -> NDArray[Any]:
    return np.asarray(tensor.detach().contiguous().numpy())
