"""Raw counts to values that can be compared between cells, when a batch is made."""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from stgraph.errors import InputError
from stgraph.graph.arguments import check_positive


class DepthValues(Protocol):
    """Turns the counts of a batch into values.

    Attributes
    ----------
    depth_tokens
        Whether each cell gets two further tokens that tell how deeply it was measured.
    of_cell
        Whether the value of a gene depends on its cell alone. Else it depends on the slot of the cell and on what
        else is in the batch, and a cell cannot be shared between neighbourhoods.
    """

    @property
    def depth_tokens(self) -> bool: ...  # noqa: D102

    @property
    def of_cell(self) -> bool: ...  # noqa: D102

    def __call__(self, counts: Tensor, offsets: Tensor, slot: Tensor) -> tuple[Tensor, Tensor]:
        """Values of the genes, and of the depth tokens.

        Parameters
        ----------
        counts
            (T,) float32, of the expressed genes of all cells; 0 where a depth token will be, whose value here is not
            used.
        offsets
            (V + 1,) int64, from 0 to T: where the counts of each of V cells begin.
        slot
            (V,) int64, slot of each cell in its neighbourhood; 0 for centres.

        Returns
        -------
        values : Tensor
            (T,) float32.
        depth : Tensor
            (V,) float32, the value of both depth tokens of each cell.
        """
        ...


@dataclass(frozen=True)
class _Depth:
    """The settings that both have."""

    target: float = 10_000.0
    clip: float = 20.0
    depth_tokens: bool = True
    floor: float = 5.0

    def __post_init__(self) -> None:
        check_positive(self, "target")
        check_positive(self, "clip")
        floor = self.floor
        if isinstance(floor, bool) or not isinstance(floor, int | float) or not (math.isfinite(floor) and floor >= 0):
            raise InputError(f"{type(self).__name__} needs a floor of 0 or more, not {floor!r}.")


@dataclass(frozen=True)
class CellDepth(_Depth):
    """``log1p`` of the share a gene has of the counts of its cell, times ``target``; in float32.

    What AIDO.Tissue [1]_ means, and AIDO.Cell does: the value of a cell depends on nothing but the cell.

    Parameters
    ----------
    target
        What the counts of a cell are scaled to.
    clip
        Greatest value of any token.
    depth_tokens
        Whether each cell gets two tokens with ``log10`` of its counts: "T" and "S" of scFoundation.
    floor
        Least value of these. With the published 5 they tell cells of more than 100,000 counts from others, which no
        spatial platform has; 0 makes them speak.

    References
    ----------
    .. [1] GenBio AI. AIDO.Tissue: spatial cell-guided pretraining for scalable spatial
       transcriptomics foundation model, 2025.

    Examples
    --------
    >>> import torch
    >>> from stgraph.data.depth_values import CellDepth
    >>> counts, offsets, slot = torch.tensor([1.0, 3.0, 7.0]), torch.tensor([0, 2, 3]), torch.tensor([0, 1])
    >>> values, depth = CellDepth(target=100, floor=0.0)(counts, offsets, slot)
    >>> values.expm1().round().tolist(), [round(value, 2) for value in depth.tolist()]
    ([25.0, 75.0, 100.0], [0.6, 0.85])
    """

    @property
    def of_cell(self) -> bool:
        """Cells can be shared between neighbourhoods."""
        return True

    def __call__(self, counts: Tensor, offsets: Tensor, slot: Tensor) -> tuple[Tensor, Tensor]:
        """Values of the genes, and of the depth tokens; see `DepthValues`."""
        total = torch.segment_reduce(counts, "sum", offsets=offsets)
        of_token = total.repeat_interleave(offsets.diff(), output_size=len(counts))
        values = (counts / of_token).mul_(self.target).log1p_().clamp_(max=self.clip)
        return values, _log10(total, self.floor).clamp(max=self.clip)


@dataclass(frozen=True)
class BatchDepth(_Depth):
    """What the released code of AIDO.Tissue does: for its weights, and to show what it costs.

    Counts are rounded to bfloat16, and divided by the sum of **all** cells that stand in the same slot of the
    batch, so that the values of a cell depend on the size of the batch and on who else is in it. Depth tokens are as
    of `CellDepth`, of that sum.

    Parameters
    ----------
    target, clip, depth_tokens, floor
        As of `CellDepth`.

    Examples
    --------
    >>> import torch
    >>> from stgraph.data.depth_values import BatchDepth
    >>> counts, offsets, slot = torch.tensor([1.0, 3.0, 7.0]), torch.arange(4), torch.tensor([0, 0, 1])
    >>> values, depth = BatchDepth(target=100)(counts, offsets, slot)
    >>> values.tolist(), depth.tolist()
    ([3.265625, 4.34375, 4.625], [5.0, 5.0, 5.0])
    """

    @property
    def of_cell(self) -> bool:
        """A cell has other values in another slot."""
        return False

    def __call__(self, counts: Tensor, offsets: Tensor, slot: Tensor) -> tuple[Tensor, Tensor]:
        """Values of the genes, and of the depth tokens; see `DepthValues`."""
        counts = counts.bfloat16()
        slot_of = slot.repeat_interleave(offsets.diff(), output_size=len(counts))
        num_slots = int(slot.max()) + 1 if len(slot) else 0
        # Sums of whole numbers, in float64 whatever their order: exact, as the release's float32 sum is mostly.
        total = torch.zeros(num_slots, dtype=torch.float64, device=counts.device)
        total = total.index_add_(0, slot_of, counts.double()).bfloat16()
        values = torch.log1p(counts / total[slot_of] * self.target).clamp(max=self.clip)
        return values.float(), _log10(total, self.floor).clamp(max=self.clip).float()[slot]


def _log10(total: Tensor, floor: float) -> Tensor:
    return torch.log10(total).clamp(min=floor)
