"""Pairwise distance recovery: say how far apart cells were before some of them were moved."""

import copy
import math
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.data import HeteroData

from stgraph.data.choice import choose_disjoint
from stgraph.data.edge_types import AT_CELLS, NEAR, TO_CELL
from stgraph.data.lengths import distance, mean_spacing_of, measure_, spacing_of
from stgraph.data.moving import moves_within
from stgraph.data.rewiring import rewire_
from stgraph.errors import InputError
from stgraph.graph.arguments import check_positive
from stgraph.graph.builders import GraphBuilder
from stgraph.graph.grid import HexGrid, SquareGrid
from stgraph.models.base import CellGraphModel, ModelOutput

JitterUnit = Literal["spacing", "mean_spacing"]
"""What a jitter is counted in: see `stgraph.data.lengths.spacing_of` and ``mean_spacing_of``."""


@dataclass(frozen=True)
class DistanceRecovery:
    """Squared error of the true log lengths of edges at moved cells (SToFM's PDR on edges).

    A share of the cells is moved by Gaussian noise; the model sees the lengths after the
    move, and tells those before it from its pair state. Nothing else marks a moved cell.

    Without ``rebuild`` it keeps its neighbours, though: its edges are longer than any the graph was built with, which
    gives away that it was moved and, by those whom they lead to, from where. With it, edges are found anew from where
    cells lie now, and moves that would end outside the owned cells of the part are drawn anew
    (`stgraph.data.moving.moves_within`), for out there a moved cell would show by its long edges: so moves are a little
    shorter than ``jitter`` says, the more so the smaller the part. Who was moved then shows in little but that cells do
    not match their surroundings. Of cells that lie at random, in parts of 250 to 1000 with one or two hops of halo,
    moved by 5 mean spacings, a random forest on lengths and numbers of edges told moved ones with an area under the
    curve of 0.54 to 0.57 (0.68 to 0.75 without the drawing anew, 1 with the old edges). On an array cells that were
    moved do not match the array either; and a model of your own that reads ``member_of`` edges, which ours do not, sees
    to which virtual cell a cell belonged. Positions of virtual cells stay as they are, means over where their members
    were: a virtual cell of few members tells a little of that.

    Parameters
    ----------
    move_rate
        Share of the cells of a part that are moved.
    jitter
        Standard deviation of the move along each axis, in ``jitter_unit``; with ``rebuild``, before some are drawn
        anew.
    weight
        Factor in the sum of losses.
    keep_rate
        Share of the cells, others than these, whose edges are judged too, though they were not moved. SToFM's code
        moves 12 % and keeps 3 %, its paper moves 10 %.
    jitter_unit
        ``"spacing"`` of the slice, like all lengths of models; or ``"mean_spacing"``, the root of the area of the part
        for each cell, of which SToFM takes 5.
    rebuild
        Finds the edges between cells at their new places, best the builder the graph of the slice was made with; see
        `stgraph.data.rewiring.rewire_` on the borders of parts. None to leave the edges to whom they led.
    with_virtual
        Whether pairs of virtual cells and judged cells are judged as well. The model has to give ``virtual_pair``.
    center, spread
        The model is to tell ``(log1p(length) - center) / spread``. At mean and standard deviation of the true log
        lengths, which `targets` gives, a model that says nothing, 0, has a loss of 1; by default its loss would begin
        at 5 or so, and a head that learns slowly would long learn but their mean.

    Raises
    ------
    InputError
        If an argument makes no sense, or ``rebuild`` finds the neighbours of an array.

    References
    ----------
    SToFM: a multi-scale foundation model for spatial transcriptomics (2025).

    Examples
    --------
    >>> import torch, stgraph
    >>> from stgraph.data.convert import to_hetero_data
    >>> from stgraph.graph.builders import KNN
    >>> from stgraph.objectives.distance_recovery import DistanceRecovery
    >>> data = to_hetero_data(stgraph.build_graph(stgraph.synthetic_tissue(n_cells=200, n_genes=60)[0]))
    >>> objective = DistanceRecovery(move_rate=0.1, jitter=5.0, rebuild=KNN(18))
    >>> batch = objective.corrupt(data, torch.Generator().manual_seed(0))
    >>> int(batch["cell"].moved.sum()), bool(objective.targets(batch).std() > 0.3)
    (20, True)
    """

    move_rate: float = 0.1
    jitter: float = 1.0
    weight: float = 0.05
    keep_rate: float = 0.0
    jitter_unit: JitterUnit = "spacing"
    rebuild: GraphBuilder | None = None
    with_virtual: bool = False
    center: float = 0.0
    spread: float = 1.0

    name: ClassVar[str] = "distance_recovery"

    def __post_init__(self) -> None:
        if not 0 < self.move_rate < 1 or self.jitter <= 0:
            raise InputError("DistanceRecovery needs a move_rate between 0 and 1 and a positive jitter.")
        if not 0 <= self.keep_rate <= 1 - self.move_rate:
            raise InputError(
                f"DistanceRecovery needs a keep_rate of 0 or more that leaves room for its move_rate, not "
                f"{self.keep_rate}."
            )
        if self.jitter_unit not in get_args(JitterUnit):
            raise InputError(
                f"DistanceRecovery's jitter_unit is one of {', '.join(get_args(JitterUnit))}, not {self.jitter_unit!r}."
            )
        if self.rebuild is not None and not (callable(self.rebuild) and hasattr(self.rebuild, "in_microns")):
            raise InputError(f"DistanceRecovery rebuilds edges with a builder such as KNN(), not {self.rebuild!r}.")
        if isinstance(getattr(self.rebuild, "builder", self.rebuild), HexGrid | SquareGrid):
            raise InputError(
                "DistanceRecovery cannot rebuild the edges of an array (HexGrid, SquareGrid), for a cell that was "
                "moved is off it and would have no neighbours: take nearest neighbours (KNN), or rebuild=None."
            )
        check_positive(self, "spread")
        if not math.isfinite(self.center):
            raise InputError(f"DistanceRecovery needs a finite center, not {self.center}.")

    def corrupt(self, batch: HeteroData, generator: torch.Generator) -> HeteroData:
        """Move cells, find their neighbours if they are to be found anew, and measure all edges at them."""
        batch = copy.copy(batch)
        cell = batch["cell"]
        cell.moved, cell.stayed = choose_disjoint(cell.owned, (self.move_rate, self.keep_rate), generator)
        noise = torch.randn(cell.num_nodes, 2, generator=generator).to(cell.pos) * self.jitter
        unit = spacing_of(batch) if self.jitter_unit == "spacing" else mean_spacing_of(batch)
        before = cell.pos
        moves = torch.where(cell.moved[:, None], noise * unit[:, None], 0.0)
        if self.rebuild is not None:
            moves = moves_within(batch, cell.moved, unit * self.jitter, moves, generator)
        cell.pos = before + moves
        if self.rebuild is None:
            batch[NEAR].true_length = batch[NEAR].edge_attr[:, 0]
        else:
            rewire_(batch, self.rebuild)
            source, target = batch[NEAR].edge_index
            batch[NEAR].true_length = distance(before[source], before[target])
        if self.with_virtual:
            if TO_CELL not in batch.edge_types:
                raise InputError(
                    "DistanceRecovery(with_virtual=True) judges edges of virtual cells to cells, which informs=False "
                    "left out: make the parts with informs=True, or add AddInforms as a transform."
                )
            batch[TO_CELL].true_length = batch[TO_CELL].edge_attr[:, 0]
        measure_(batch, AT_CELLS)
        return batch

    def count(self, batch: HeteroData) -> Tensor:
        """How many edges are judged."""
        near, informs = self._judged(batch)
        return torch.tensor(float(len(near) + len(informs)), device=near.device)

    def targets(self, batch: HeteroData) -> Tensor:
        """(n,) what is to be told of the judged edges of a corrupted batch: ``log1p`` of true lengths in spacings.

        Their mean and standard deviation over a few batches are a good ``center`` and ``spread``.
        """
        return torch.cat(
            [
                self._true(batch, edge_type, judged)
                for edge_type, judged in zip((NEAR, TO_CELL), self._judged(batch), strict=True)
            ]
        )

    def loss(self, model: CellGraphModel, output: ModelOutput, batch: HeteroData) -> Tensor:
        """Mean squared error, over the judged edges, of standardised log lengths; 0 if there is none."""
        near, informs = self._judged(batch)
        if len(near) + len(informs) == 0:
            return output.near_pair.sum() * 0.0
        pair = output.near_pair.index_select(0, near)
        if self.with_virtual:
            virtual_pair: Tensor | None = getattr(output, "virtual_pair", None)
            if virtual_pair is None:
                raise InputError(
                    "DistanceRecovery(with_virtual=True) needs a model that gives pair states of virtual cells "
                    f"(ModelOutput.virtual_pair), and {type(model).__name__} gives none: set with_virtual=False."
                )
            pair = torch.cat([pair, virtual_pair.index_select(0, informs)])
        # As the logarithm, in which one stray cell far from the tissue does not outweigh all others.
        truth = (self.targets(batch) - self.center) / self.spread
        return F.mse_loss(model.predict_distances(pair).float(), truth)

    def _judged(self, batch: HeteroData) -> tuple[Tensor, Tensor]:
        """Which edges between cells, and which of virtual cells to cells, are judged."""
        chosen = batch["cell"].moved | batch["cell"].stayed
        source, target = batch[NEAR].edge_index
        near = (chosen[source] | chosen[target]).nonzero()[:, 0]
        if not self.with_virtual:
            return near, near[:0]
        return near, chosen[batch[TO_CELL].edge_index[1]].nonzero()[:, 0]

    @staticmethod
    def _true(batch: HeteroData, edge_type: tuple[str, str, str], edges: Tensor) -> Tensor:
        if len(edges) == 0:
            return spacing_of(batch)[:0]
        target = batch[edge_type].edge_index[1][edges]
        length: Tensor = batch[edge_type].true_length[edges]
        return (length / spacing_of(batch)[target]).log1p()
