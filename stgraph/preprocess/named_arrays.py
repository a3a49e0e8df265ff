"""What was learnt, as named arrays that any file can hold."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stgraph.errors import InputError


def genes_to_bytes(genes: Sequence[str]) -> NDArray[np.uint8]:
    """Names of genes as one array, UTF-8.

    Examples
    --------
    >>> from stgraph.preprocess.named_arrays import bytes_to_genes, genes_to_bytes
    >>> bytes_to_genes(genes_to_bytes(["MBP", "β"]))
    ['MBP', 'β']
    """
    return np.frombuffer("\n".join(genes).encode(), dtype=np.uint8).copy()


def bytes_to_genes(array: NDArray[Any]) -> list[str]:
    """Names of genes from what `genes_to_bytes` made of them."""
    return array.tobytes().decode().split("\n")


def check_names(owner: object, state: Mapping[str, NDArray[Any]], needed: set[str]) -> None:
    """Refuse a state that has other arrays than needed.

    Parameters
    ----------
    owner
        Whose state it is; its class is named in the error.
    state
        Named arrays.
    needed
        Their names.

    Raises
    ------
    InputError
        If one is missing, or there is another.
    """
    if needed != set(state):
        raise InputError(f"The state of {type(owner).__name__} must hold {sorted(needed)}, not {sorted(state)}.")


def check_fit(owner: object, fits: bool) -> None:
    """Refuse arrays whose shapes do not fit together.

    Raises
    ------
    InputError
        If they do not.
    """
    if not fits:
        raise InputError(f"The state of {type(owner).__name__} has arrays of shapes that do not fit together.")
