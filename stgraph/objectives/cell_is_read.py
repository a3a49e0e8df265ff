"""Whether objectives on cells train the embedding that is asked of a network in the end."""

from collections.abc import Sequence

from stgraph.errors import InputError
from stgraph.objectives.balance import Balance
from stgraph.objectives.base import Objective


def check_cell_is_read(objectives: Sequence[Objective | Balance], owner: str) -> None:
    """Refuse objectives none of which would train the embedding of a cell.

    Parameters
    ----------
    objectives
        Those with ``reads_cell = False`` look at the states of tokens only; one that does not say is trusted.
    owner
        Whose they are, for the message.

    Raises
    ------
    InputError
        If none reads it.

    Examples
    --------
    >>> from stgraph.objectives.cell_is_read import check_cell_is_read
    >>> from stgraph.objectives.contrastive import DropoutPairs
    >>> from stgraph.objectives.masked_gene import MaskedGene
    >>> check_cell_is_read([DropoutPairs(), MaskedGene()], "AdaptCells")
    """
    judged = [objective for objective in objectives if not isinstance(objective, Balance)]
    if judged and not any(getattr(objective, "reads_cell", True) for objective in judged):
        names = " and ".join(type(objective).__name__ for objective in judged)
        raise InputError(
            f"{owner} has only {names}, which do not read the embedding of the cell, so that nothing would train it: "
            "add GenesFromCell, or ValueFromCell for values."
        )
