"""What a task is given, checked before anything is computed."""

from collections.abc import Mapping
from typing import Any

from anndata import AnnData

from stgraph.errors import InputError


def check_slices(slices: Any) -> None:
    """Refuse what is no mapping from names to slices, in a sentence that says what to write.

    Parameters
    ----------
    slices
        What a task was given.

    Raises
    ------
    InputError
        If it is something else.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.tasks.given import check_slices
    >>> check_slices({"a": stgraph.synthetic_tissue(n_cells=100, n_genes=60)[0]})
    """
    how = "give slices by name, as {'a': adata}, or stgraph.io.slices.split_slices([adata, ...])"
    if isinstance(slices, AnnData):
        raise InputError(f"A task takes slices by name, not one AnnData: {how}.")
    if not isinstance(slices, Mapping):
        raise InputError(f"A task takes slices by name, not {_called(slices)}: {how}.")
    if not slices:
        raise InputError("A task needs a slice at least, and was given none.")
    for name, adata in slices.items():
        if not isinstance(adata, AnnData):
            raise InputError(f"The slice '{name}' is {_called(adata)}, not an AnnData: read it with stgraph.read.")


def check_split(split: Any) -> None:
    """Refuse what is no split.

    Parameters
    ----------
    split
        What a task was given.

    Raises
    ------
    InputError
        If it has no folds, or is a class.

    Examples
    --------
    >>> from stgraph.tasks.given import check_split
    >>> from stgraph.tasks.splits import SpatialBlocks
    >>> check_split(SpatialBlocks())
    """
    if isinstance(split, type) or not callable(getattr(split, "folds", None)):
        what = f"the class {split.__name__}" if isinstance(split, type) else repr(split)
        raise InputError(f"A split must be an object such as stgraph.tasks.splits.SpatialBlocks(), not {what}.")


def check_model(model: Any) -> None:
    """Refuse what neither describes cells nor learns labels.

    Parameters
    ----------
    model
        What a task was given.

    Raises
    ------
    InputError
        If it can do neither, or is a class.

    Examples
    --------
    >>> from stgraph.baselines import NeighborPCA
    >>> from stgraph.tasks.given import check_model
    >>> check_model(NeighborPCA())
    """
    describes = all(callable(getattr(model, name, None)) for name in ("fit", "transform"))
    learns = all(callable(getattr(model, name, None)) for name in ("learn", "predict"))
    if isinstance(model, type) or not (describes or learns):
        what = f"the class {model.__name__}" if isinstance(model, type) else repr(model)
        raise InputError(
            "A model must be an object that describes cells (fit, transform), such as "
            f"stgraph.baselines.NeighborPCA(), or that learns labels (learn, predict), not {what}."
        )


def _called(given: Any) -> str:
    return f"a {type(given).__name__}"
