"""What the weights of a model may be used for, where they are somebody else's."""

from collections.abc import Iterable
from typing import Any

from torch import nn


def licences_of(parts: Iterable[Any]) -> list[str]:
    """Texts of the licences that the weights of some parts of a model carry, each once.

    Parameters
    ----------
    parts
        Networks, or encoders and the like that have networks as attributes. A module that carries a licence has its
        text as ``licence``, as `stgraph.models.aido_tissue.AIDOTissue` has.

    Examples
    --------
    >>> from stgraph.models.aido_tissue import AIDOTissue
    >>> from stgraph.tasks.weight_licence import licences_of
    >>> licences_of([AIDOTissue(3, licence="for non-commercial use only")])
    ['for non-commercial use only']
    """
    found: dict[str, None] = {}
    for part in parts:
        for network in [part, *getattr(part, "__dict__", {}).values()]:
            if isinstance(network, nn.Module):
                carried = (getattr(module, "licence", None) for module in network.modules())
                found |= dict.fromkeys(text for text in carried if isinstance(text, str) and text)
    return list(found)
