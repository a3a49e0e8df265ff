"""No training at all, where a trainer is expected."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from torch import nn
from torch.utils.data import Dataset
from torch_geometric.data import HeteroData

from stgraph.objectives.base import WeightedSum
from stgraph.training.batches import Batches
from stgraph.training.records import Record


@dataclass(frozen=True)
class Untrained:
    """Leaves the network as it was drawn: what training is compared with, or a start from scratch.

    In place of a `stgraph.training.loop.Trainer`.

    Examples
    --------
    >>> import stgraph
    >>> tissue = stgraph.synthetic_tissue(n_cells=200, n_genes=60)
    >>> untrained = {"_target_": "stgraph.training.untrained.Untrained"}
    >>> stgraph.fit(tissue, trainer=untrained, domains=None, progress=False).history
    []
    """

    max_steps: ClassVar[int] = 0

    def fit(
        self,
        model: nn.Module,
        dataset: Dataset[HeteroData] | Batches,
        objective: WeightedSum,
        *,
        on_step: Callable[[Record], None] | None = None,
        until: Callable[[Record], bool] | None = None,
        resume: Path | None = None,
    ) -> list[Record]:
        """Take no step, and keep nothing; the model comes back in eval mode."""
        model.eval()
        return []
