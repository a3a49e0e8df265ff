"""What an encoder may tell a head beyond its description: parts that stand alone, and copies to learn from too."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from anndata import AnnData

from stgraph.baselines.base import SliceEncoder

WHOLE = "whole"
"""Name of the view that is the whole description."""


@runtime_checkable
class HasViews(Protocol):
    """An encoder whose columns are of several kinds, so that a head may do better on some than on all.

    The type of a cell is a matter of its own counts, its region one of its surroundings: what a
    user would choose by looking at validation cells, a probe chooses so too.

    Attributes
    ----------
    unguided
        Name of the view to take where no label can choose, as in clustering.
    """

    unguided: str

    def views(self) -> Mapping[str, slice]:
        """Columns of each view, by name, once something was described; the first is tried first."""
        ...


@runtime_checkable
class HasCopies(Protocol):
    """An encoder that was fitted on changed copies of slices too, from which heads should learn as well."""

    def copies(self, adata: AnnData) -> list[AnnData]:
        """Copies of one slice, with its cells in their order."""
        ...


def views_of(encoder: SliceEncoder) -> dict[str, slice]:
    """Views of an encoder; of most there is only the whole.

    Parameters
    ----------
    encoder
        Fitted, and something was described with it.

    Returns
    -------
    dict
        Columns by name.

    Examples
    --------
    >>> from stgraph.baselines import NeighborPCA
    >>> from stgraph.baselines.advice import views_of
    >>> views_of(NeighborPCA())
    {'whole': slice(None, None, None)}
    """
    return dict(encoder.views()) if isinstance(encoder, HasViews) else {WHOLE: slice(None)}


def unguided_view(encoder: SliceEncoder) -> slice:
    """Columns to take where no label can choose.

    Parameters
    ----------
    encoder
        As for `views_of`.

    Returns
    -------
    slice
        Of columns.
    """
    return dict(encoder.views())[encoder.unguided] if isinstance(encoder, HasViews) else slice(None)


def copies_of(encoder: SliceEncoder, adata: AnnData) -> list[AnnData]:
    """Copies of a slice that a head should learn from too; of most encoders there are none."""
    return encoder.copies(adata) if isinstance(encoder, HasCopies) else []
