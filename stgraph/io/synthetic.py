"""The tissue that comes with stgraph: a synthetic section of cortex with known domains."""

import numpy as np
import pandas as pd
from anndata import AnnData

from stgraph import _keys
from stgraph.errors import InputError
from stgraph.io._anatomy import (
    DOMAINS,
    Anatomy,
    IntArray,
    Place,
    domain_codes,
    draw_anatomy,
    draw_section,
    place_cells,
)
from stgraph.io._expression import CELL_TYPES, Panel, draw_counts, draw_panel, draw_types


def synthetic_tissue(
    *, n_cells: int = 2500, n_genes: int = 300, n_slices: int = 1, random_state: int = 0
) -> list[AnnData]:
    """Draw serial sections of one synthetic animal, as an imaging platform would report them.

    A fold of cortex with six bands (``L1`` to ``WM``), a branching vessel and a nodule that
    overgrows several layers. Twelve cell types occur in most domains, in different
    proportions; some genes follow position within a type. Counts are negative binomial with
    a log-normal depth (median near 250 molecules per cell), three per cent of the cells are
    of low quality, and six per cent of the molecules are assigned to a neighbouring cell.
    Sections share genes and anatomy and differ in cells, mounting, warp, depth and a mild
    batch effect per gene. Section ``i`` is the same for every ``n_slices`` above ``i``.

    Parameters
    ----------
    n_cells
        Cells per section, at least 50. Density is fixed, so the tissue grows with it.
    n_genes
        Genes measured, at least 50. Two fifths are markers, named after their cell type.
    n_slices
        Sections, at least 1.
    random_state
        Seed, not negative; the same seed gives the same tissue.

    Returns
    -------
    list of AnnData
        One per section: counts in ``X`` (CSR int32), microns in ``obsm["spatial"]``, and
        ``"domain"``, ``"cell_type"`` and ``"slice_id"`` as categories in ``obs``.

    Raises
    ------
    InputError
        If a number is too small.

    Shapes
    ------
    ``X`` (N, G); ``obsm["spatial"]`` (N, 2), microns.

    Examples
    --------
    >>> tissue = synthetic_tissue(n_cells=200, n_genes=60, n_slices=2)
    >>> [section.shape for section in tissue]
    [(200, 60), (200, 60)]
    >>> list(tissue[0].obs["domain"].cat.categories)
    ['L1', 'L2/3', 'L4', 'L5', 'L6', 'WM', 'nodule']
    >>> tissue[1].obs_names[0], tissue[1].var_names[0]
    ('s1_cell00000', 'Exc-L23-1')
    """
    _require(n_cells, "n_cells", 50)
    _require(n_genes, "n_genes", 50)
    _require(n_slices, "n_slices", 1)
    _require(random_state, "random_state", 0)
    shared, *own = (np.random.default_rng(s) for s in np.random.SeedSequence(random_state).spawn(1 + n_slices))
    anatomy = draw_anatomy(n_cells, shared)
    panel = draw_panel(n_genes, shared)
    return [_draw_slice(anatomy, panel, n_cells, index, rng) for index, rng in enumerate(own)]


def _require(value: int, name: str, least: int) -> None:
    if value < least:
        raise InputError(f"{name} must be at least {least} for a synthetic tissue, not {value}.")


def _draw_slice(anatomy: Anatomy, panel: Panel, n_cells: int, index: int, rng: np.random.Generator) -> AnnData:
    section = draw_section(anatomy, rng)
    positions, place = place_cells(anatomy, section, n_cells, rng)
    types = draw_types(place, rng)
    return AnnData(
        X=draw_counts(panel, types, place, positions, rng),
        obs=_describe(place, types, index),
        var=pd.DataFrame(index=panel.names),
        obsm={_keys.SPATIAL: positions},
        uns={
            _keys.STGRAPH: {_keys.UM_PER_UNIT: 1.0, _keys.UNIT: "um", _keys.UNIT_SOURCE: "file"},
            "organism": "synthetic",
        },
    )


def _describe(place: Place, types: IntArray, index: int) -> pd.DataFrame:
    """Tabulate the ground truth; every section has every category, so sections concatenate."""
    domains = domain_codes(place.depth, place.nodule)
    return pd.DataFrame(
        {
            "domain": pd.Categorical(np.array(DOMAINS)[domains], categories=list(DOMAINS)),
            "cell_type": pd.Categorical(np.array(CELL_TYPES)[types], categories=list(CELL_TYPES)),
            _keys.SLICE: pd.Categorical([f"synthetic_{index}"] * types.size),
        },
        index=[f"s{index}_cell{cell:05d}" for cell in range(types.size)],
    )
