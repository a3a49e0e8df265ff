"""No distance bias."""

from torch import Tensor, nn


class NoBias(nn.Module):
    """Zero for every edge and head: what attention does without distances, for ablation.

    Parameters
    ----------
    heads
        H.

    Shapes
    ------
    distance, edge_type : (E,)
    output : (E, H)

    Examples
    --------
    >>> import torch
    >>> from stgraph.nn.distance_bias import NoBias
    >>> NoBias(heads=2)(torch.tensor([1.0]), torch.tensor([0]))
    tensor([[0., 0.]])
    """

    num_edge_types: int | None = None

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads

    def forward(self, distance: Tensor, edge_type: Tensor) -> Tensor:
        """Zeros."""
        return distance.new_zeros((len(distance), self.heads))
