"""How several losses become one."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from stgraph.graph.arguments import check_positive


class Balance(nn.Module, ABC):
    """Makes one loss of several. Its parameters, if it has any, are trained along with the model.

    It is given to a `stgraph.objectives.base.WeightedSum`.
    """

    name: ClassVar[str] = "balance"

    def set_names(self, names: Sequence[str]) -> None:
        """Learn the names of the losses, once, before training."""

    @abstractmethod
    def forward(self, losses: Mapping[str, Tensor], weights: Mapping[str, float], share: float = 1.0) -> Tensor:
        """The loss to minimise.

        Parameters
        ----------
        losses
            By name, scalars. Where a step has several batches, each is one batch's share of the loss of the step:
            the result is to be linear in them.
        weights
            By name, the weights of the objectives.
        share
            This batch's share in what does not depend on the losses.

        Returns
        -------
        Tensor
            ().
        """


class FixedBalance(Balance):
    """The sum of the losses times their weights.

    Examples
    --------
    >>> import torch
    >>> from stgraph.objectives.balance import FixedBalance
    >>> FixedBalance()({"a": torch.tensor(2.0), "b": torch.tensor(3.0)}, {"a": 1.0, "b": 0.5})
    tensor(3.5000)
    """

    def forward(self, losses: Mapping[str, Tensor], weights: Mapping[str, float], share: float = 1.0) -> Tensor:
        """The loss to minimise."""
        return torch.as_tensor(sum(weights[name] * loss for name, loss in losses.items()))


class LearnedBalance(Balance):
    """Weighs each loss by a precision that is learned: losses of any scale come to count alike.

    The loss is the sum over objectives k of ``weight_k (exp(-s_k) loss_k + s_k)`` with a parameter ``s_k``, the
    logarithm of the variance of the errors that ``loss_k`` is a mean square of (twice the negative log likelihood, up
    to constants). At its best ``s_k = log(loss_k)``, and a gradient step lowers ``weight_k log(loss_k)``: halving
    either loss is worth the same, whatever its unit. ``weight_k`` keeps its meaning as the importance of a task, and
    with ``s_k = 0``, the start, the sum is that of `FixedBalance`.

    The loss may become negative, and is not to be compared between steps; those by name are.

    A logarithm has a scale of its own: with the learning rate of a large network, ``s_k`` would hardly leave 0 in all
    of training. So `stgraph.training.loop.Trainer` gives it its own, and leaves it out where it clips gradients.

    Parameters
    ----------
    lr
        Largest learning rate of ``s_k``, which rises and falls as that of the network: with Adam, about the change in
        a step.

    Attributes
    ----------
    log_variance
        By name, the parameter (), once `set_names` has been called.

    References
    ----------
    Kendall, Gal and Cipolla, "Multi-task learning using uncertainty to weigh losses", CVPR 2018.

    Examples
    --------
    >>> from stgraph.objectives.balance import LearnedBalance
    >>> from stgraph.objectives.base import WeightedSum
    >>> from stgraph.objectives.distance_recovery import DistanceRecovery
    >>> from stgraph.objectives.masked_cell import MaskedCell
    >>> objective = WeightedSum([MaskedCell(), DistanceRecovery(), LearnedBalance()])
    >>> {name: parameter.item() for name, parameter in objective.named_parameters()}
    {'balance.log_variance.masked_cell': 0.0, 'balance.log_variance.distance_recovery': 0.0}
    """

    def __init__(self, lr: float = 0.01) -> None:
        super().__init__()
        self.lr = lr
        check_positive(self, "lr")
        self.log_variance = nn.ParameterDict()

    def set_names(self, names: Sequence[str]) -> None:
        """Make one parameter for each loss, all zero."""
        self.log_variance = nn.ParameterDict()
        for name in names:  # a dict would be sorted
            self.log_variance[name] = nn.Parameter(torch.zeros(()))

    def forward(self, losses: Mapping[str, Tensor], weights: Mapping[str, float], share: float = 1.0) -> Tensor:
        """The loss to minimise."""
        terms = []
        for name, loss in losses.items():
            log_variance = self.log_variance[name]
            terms.append(weights[name] * ((-log_variance).exp() * loss + share * log_variance))
        return torch.stack(terms).sum()
