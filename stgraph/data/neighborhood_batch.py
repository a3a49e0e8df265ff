"""Cells with the cells around them, ragged: what a network of neighbourhoods reads."""

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from stgraph.data.cell_batch import CellBatch
from stgraph.data.neighborhood_kernels import pack_tokens
from stgraph.errors import InputError


class HiddenGenes(NamedTuple):
    """Genes of centres that an objective hid, and what they were.

    Attributes
    ----------
    row
        (n,) int64, sequence of the batch.
    gene
        (n,) int64, number of the gene.
    truth
        (n,) float32, its value in the centre; 0 where it is not expressed.
    """

    row: Tensor
    gene: Tensor
    truth: Tensor


@dataclass(frozen=True, eq=False)
class PackedNeighborhoods:
    """The tokens of S neighbourhoods end to end, without padding: of the centre first, then of each neighbour.

    Attributes
    ----------
    source
        (T,) int64, position of each token among the tokens of the distinct cells of the batch.
    slot
        (T,) int64, 0 for the centre, 1 for the nearest neighbour, up to K.
    offsets
        (S + 1,) int64, from 0 to T.
    center_tokens
        (S,) int64, how many tokens the centre has: they come first.

    Examples
    --------
    >>> import torch
    >>> from stgraph.data.neighborhood_batch import PackedNeighborhoods
    >>> source, slot = torch.tensor([0, 1, 2, 2, 0]), torch.tensor([0, 0, 1, 0, 1])
    >>> packed = PackedNeighborhoods(source, slot, torch.tensor([0, 3, 5]), torch.tensor([2, 1]))
    >>> packed.lengths.tolist(), packed.row_of_token.tolist(), packed.center_positions.tolist()
    ([3, 2], [0, 0, 0, 1, 1], [0, 1, 3])
    >>> packed.keep(torch.tensor([True, False, True, True, False])).offsets.tolist()
    [0, 2, 3]
    """

    source: Tensor
    slot: Tensor
    offsets: Tensor
    center_tokens: Tensor

    @property
    def num_tokens(self) -> int:
        """T."""
        return len(self.source)

    @property
    def lengths(self) -> Tensor:
        """(S,) int64, tokens of each neighbourhood."""
        return self.offsets.diff()

    @property
    def row_of_token(self) -> Tensor:
        """(T,) int64, the neighbourhood each token belongs to."""
        rows = torch.arange(len(self.offsets) - 1, device=self.source.device)
        return rows.repeat_interleave(self.lengths, output_size=self.num_tokens)

    @property
    def center_positions(self) -> Tensor:
        """Positions of the tokens of centres, one neighbourhood after another."""
        return torch.nonzero(self.slot == 0).flatten()

    def keep(self, kept: Tensor) -> Self:
        """The same without some tokens.

        Parameters
        ----------
        kept
            (T,) bool, which of them stay. A neighbourhood may lose all.

        Returns
        -------
        PackedNeighborhoods
            A copy.
        """
        before = torch.nn.functional.pad(kept.cumsum(0), (1, 0))
        begin = self.offsets[:-1]
        return replace(
            self,
            source=self.source[kept],
            slot=self.slot[kept],
            offsets=before[self.offsets],
            center_tokens=before[begin + self.center_tokens] - before[begin],
        )

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Self:
        """The same on another device."""
        return replace(
            self, **{each.name: getattr(self, each.name).to(device, non_blocking=non_blocking) for each in fields(self)}
        )


@dataclass(frozen=True, eq=False)
class NeighborhoodBatch:
    """Some cells, each with its neighbours; a cell that is near to several stands here once.

    Attributes
    ----------
    unique
        The V distinct cells, with values: gene numbers in rising order, then the depth tokens if there are any.
        ``cell`` is the number of each in its data set, -1 for what is no cell of it.
    neighbors
        (S, K + 1) int64, rows of ``unique``: the centre itself in column 0, then its neighbours, nearest
        first; -1 where there is none.
    distance
        (S, K + 1) float32, how far they are, in the unit of the slice; infinite where there is none.
    panel
        (S,) int64, which of ``panels`` each centre was measured with.
    panels
        Gene numbers, rising, that were measured; one tensor for each panel.
    packed
        The sequences of tokens if they are others than all tokens of all cells, for an objective took some away.
    hidden
        Genes that an objective hid from the centres; None if none.

    Shapes
    ------
    S sequences (centres), K neighbours, V distinct cells, n hidden genes.

    Examples
    --------
    Two cells that are neighbours, one with genes 2 and 3, the other with gene 4:

    >>> import torch
    >>> from stgraph.data.cell_batch import CellBatch
    >>> from stgraph.data.neighborhood_batch import NeighborhoodBatch
    >>> two = CellBatch(torch.tensor([2, 3, 4]), torch.tensor([0, 2, 3]), torch.tensor([7, 8]), torch.ones(3))
    >>> near, far = torch.tensor([[0, 1], [1, 0]]), torch.tensor([[0.0, 9.0], [0.0, 9.0]])
    >>> batch = NeighborhoodBatch(two, near, far, torch.tensor([0, 0]), (torch.arange(5),))
    >>> packed = batch.pack()
    >>> two.tokens[packed.source].tolist(), packed.slot.tolist(), packed.offsets.tolist()
    ([2, 3, 4, 4, 2, 3], [0, 0, 1, 0, 1, 1], [0, 3, 6])
    """

    unique: CellBatch
    neighbors: Tensor
    distance: Tensor
    panel: Tensor
    panels: tuple[Tensor, ...]
    packed: PackedNeighborhoods | None = None
    hidden: HiddenGenes | None = None

    def __post_init__(self) -> None:
        shape, panel = tuple(self.neighbors.shape), tuple(self.panel.shape)
        if len(shape) != 2 or shape[1] < 1 or tuple(self.distance.shape) != shape or panel != shape[:1]:
            raise InputError(
                "A NeighborhoodBatch needs neighbors and distance (S, K + 1) and panel (S,), not "
                f"{shape}, {tuple(self.distance.shape)} and {panel}."
            )
        if self.unique.values is None:
            raise InputError("A NeighborhoodBatch needs the values of the tokens of its cells.")

    @property
    def num_cells(self) -> int:
        """S, centres."""
        return len(self.neighbors)

    @property
    def num_slots(self) -> int:
        """K + 1, cells of a neighbourhood."""
        return self.neighbors.shape[1]

    @property
    def cell(self) -> Tensor:
        """(S,) int64, number of each centre in the data set."""
        return self.unique.cell[self.neighbors[:, 0]]

    def pack(self) -> PackedNeighborhoods:
        """The sequences of tokens: those an objective left if it took some away, else all.

        Returns
        -------
        PackedNeighborhoods
            Made once and kept.
        """
        return self._all_tokens if self.packed is None else self.packed

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Self:
        """The same on another device."""

        def moved(value: Any) -> Any:
            if isinstance(value, HiddenGenes):
                return HiddenGenes(*(tensor.to(device, non_blocking=non_blocking) for tensor in value))
            if isinstance(value, tuple):
                return tuple(tensor.to(device, non_blocking=non_blocking) for tensor in value)
            return None if value is None else value.to(device, non_blocking=non_blocking)

        return replace(self, **{each.name: moved(getattr(self, each.name)) for each in fields(self)})

    @cached_property
    def _all_tokens(self) -> PackedNeighborhoods:
        row = self.neighbors.flatten()
        length = self.unique.lengths[row.clamp(min=0)] * (row >= 0)
        end = length.cumsum(0)
        total = int(end[-1]) if len(end) else 0
        pack = _packed_on_cpu if row.device.type == "cpu" else _packed
        source, slot = pack(self.neighbors, self.unique.offsets, end, total)
        return PackedNeighborhoods(
            source=source,
            slot=slot,
            offsets=torch.nn.functional.pad(end.view(self.num_cells, self.num_slots)[:, -1], (1, 0)),
            center_tokens=length.view(self.num_cells, self.num_slots)[:, 0],
        )


def _packed(rows: Tensor, begin: Tensor, end: Tensor, total: int) -> tuple[Tensor, Tensor]:
    """Position and slot of each token of the cells of a table."""
    length = end.diff(prepend=end.new_zeros(1))
    # Within a cell the position counts up by one; between two it jumps.
    jump = begin[rows.flatten().clamp(min=0)] - (end - length)
    slot = torch.arange(rows.shape[1], device=rows.device).repeat(len(rows))
    source = jump.repeat_interleave(length, output_size=total) + torch.arange(total, device=rows.device)
    return source, slot.repeat_interleave(length, output_size=total)


def _packed_on_cpu(rows: Tensor, begin: Tensor, end: Tensor, total: int) -> tuple[Tensor, Tensor]:
    """The same several times as fast."""
    source, slot = torch.empty(total, dtype=torch.int64), torch.empty(total, dtype=torch.int64)
    pack_tokens(*(tensor.contiguous().numpy() for tensor in (rows, begin, end, source, slot)))
    return source, slot
