"""What the cells of the synthetic tissue are and express: types, genes, counts, leaks."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.spatial import cKDTree

from stgraph.io._anatomy import FloatArray, IntArray, Place, domain_codes

CELL_TYPES = (
    "Exc-L2/3", "Exc-L4", "Exc-L5", "Exc-L6", "Inh-Pvalb", "Inh-Vip",
    "Astro", "OPC", "Oligo", "Micro", "T-cell", "Endo",
)  # fmt: skip

_FAMILY = np.array([0, 0, 0, 0, 1, 1, 2, 2, 2, 3, 3, 4])
_SIZE = np.array([1.25, 1.2, 1.5, 1.2, 1.2, 0.95, 0.9, 0.8, 0.9, 0.65, 0.55, 0.75])

# Rows are DOMAINS, columns CELL_TYPES, per cent. Neighbouring layers share most of their
# types: a domain is a mixture, so one cell alone says little about where it lies.
_COMPOSITION = np.array(
    [
        [2, 0, 0, 0, 2, 13, 54, 8, 2, 9, 1, 9],  # L1
        [64, 6, 1, 0, 4, 6, 7, 3, 1, 3, 0, 5],  # L2/3
        [9, 62, 6, 0, 6, 3, 5, 2, 1, 3, 0, 3],  # L4
        [1, 6, 62, 7, 7, 2, 6, 2, 2, 2, 0, 3],  # L5
        [0, 1, 7, 64, 3, 2, 7, 3, 7, 3, 0, 3],  # L6
        [0, 0, 0, 5, 1, 1, 14, 7, 63, 5, 0, 4],  # WM
        [2, 3, 2, 1, 1, 1, 11, 3, 3, 26, 39, 8],  # nodule
    ],
    dtype=np.float64,
)
_AT_VESSEL = np.array([0, 0, 0, 0, 0, 0, 18, 2, 1, 8, 5, 66], dtype=np.float64)
_VESSEL_HALF_WIDTH_UM = 11.0
_BLUR = 0.037  # cortical thicknesses by which types stray over the edge of their domain

_N_LEAK_NEIGHBORS = 6
_LEAK = 0.06
_TYPICAL_DEPTH = 250.0
_CHUNK = 4096


@dataclass(frozen=True)
class Panel:
    """The genes measured in an animal; T cell types, G genes, F position features."""

    names: list[str]
    log_mean: FloatArray  # (T, G)
    slope: FloatArray  # (F, G)
    responds: npt.NDArray[np.bool_]  # (T, G)
    dispersion: FloatArray  # (G,): variance = mean + dispersion * mean**2


def draw_panel(n_genes: int, rng: np.random.Generator) -> Panel:
    """Draw what every type expresses: markers of one or several types, and the rest."""
    n_types = len(CELL_TYPES)
    n_markers = max(1, n_genes * 2 // (5 * n_types))
    marks = np.repeat(np.arange(n_types), n_markers)
    names = [f"{CELL_TYPES[t].replace('/', '')}-{i % n_markers + 1}" for i, t in enumerate(marks)]
    names += [f"Gene{i + 1:03d}" for i in range(n_genes - marks.size)]

    # Panels span orders of magnitude, but their designers leave out what would dominate them.
    others = rng.permutation(np.linspace(-6.0, 2.8, n_genes - marks.size))
    # A marker is chosen for being low where it does not belong.
    baseline = np.concatenate([rng.normal(-1.6, 0.8, marks.size), others])
    log_mean = baseline + rng.normal(0.0, 0.2, (n_types, n_genes))
    log_mean[:, : marks.size] += _marker_boost(marks, rng)

    position_genes = rng.random((3, n_genes)) < 0.08
    return Panel(
        names=names,
        log_mean=log_mean,
        slope=position_genes * rng.normal(0.0, 0.45, (3, n_genes)),
        responds=rng.random((n_types, n_genes)) < 0.5,
        dispersion=rng.lognormal(np.log(0.45), 0.5, n_genes),
    )


def draw_types(place: Place, rng: np.random.Generator) -> IntArray:
    """Index into `CELL_TYPES` per cell, by the composition of the tissue around it."""
    blur = rng.normal(0.0, _BLUR, (2, place.depth.size))
    weights = _COMPOSITION[domain_codes(place.depth + blur[0], place.nodule + blur[1])]
    weights[place.vessel_um < _VESSEL_HALF_WIDTH_UM] = _AT_VESSEL
    cumulative = weights.cumsum(axis=1)
    ticket = rng.random((place.depth.size, 1)) * cumulative[:, -1:]
    return np.asarray((ticket >= cumulative).sum(axis=1), dtype=np.intp)


def draw_counts(
    panel: Panel, types: IntArray, place: Place, positions: FloatArray, rng: np.random.Generator
) -> sparse.csr_matrix:
    """Draw the counts of one section, (N, G) int32, with its batch effect and its leaks."""
    batch = rng.normal(0.0, 0.15, len(panel.names))
    depth = _draw_depth(types, rng)
    position = _position_features(place)
    rows = []
    # A few thousand cells at a time: never all of them dense at once.
    for start in range(0, types.size, _CHUNK):
        cells = slice(start, start + _CHUNK)
        rate = np.exp(_log_rate(panel, types[cells], position[cells]) + batch)
        rate *= (depth[cells] / rate.sum(axis=1))[:, None]
        rate *= rng.gamma(1.0 / panel.dispersion, panel.dispersion, rate.shape)
        rows.append(sparse.csr_matrix(rng.poisson(rate).astype(np.int32)))
    return _leak(sparse.vstack(rows, format="csr"), positions, rng)


def _log_rate(panel: Panel, types: IntArray, position: FloatArray) -> FloatArray:
    """Log mean of every gene up to a constant per cell: its type, and where that type lies."""
    gradient: FloatArray = (position @ panel.slope) * panel.responds[types]
    return panel.log_mean[types] + gradient


def _marker_boost(marks: IntArray, rng: np.random.Generator) -> FloatArray:
    """Log fold change of each marker in each type: its own, its kin and a few strangers."""
    own = rng.normal(2.8, 0.4, marks.size)
    kin = (_FAMILY[:, None] == _FAMILY[marks]) * rng.uniform(0.1, 0.5, (_FAMILY.size, marks.size))
    stranger = (rng.random((_FAMILY.size, marks.size)) < 0.08) * 0.5
    share = np.maximum(kin, stranger)
    share[marks, np.arange(marks.size)] = 1.0
    boost: FloatArray = own * share
    return boost


def _position_features(place: Place) -> FloatArray:
    """Depth and lateral position in -1..1, and the halo around the nodule in 0..1."""
    halo = np.exp(-np.maximum(place.nodule, 0.0) / 0.12)
    return np.column_stack([2.0 * place.depth - 1.0, place.lateral, halo])


def _draw_depth(types: IntArray, rng: np.random.Generator) -> FloatArray:
    """Molecules to expect per cell: the section, the size of its type, luck, and quality."""
    depth = _TYPICAL_DEPTH * rng.lognormal(0.0, 0.1) * _SIZE[types] * rng.lognormal(0.0, 0.4, types.size)
    poor = rng.random(types.size) < 0.03
    depth[poor] *= rng.uniform(0.05, 0.25, poor.sum())
    return depth


def _leak(counts: sparse.csr_matrix, positions: FloatArray, rng: np.random.Generator) -> sparse.csr_matrix:
    """Assign a few per cent of the molecules to a cell next door, as segmentation does."""
    n_cells = counts.shape[0]
    near = cKDTree(positions).query(positions, k=_N_LEAK_NEIGHBORS + 1)[1][:, 1:]
    leaving = rng.binomial(counts.data, _LEAK).astype(np.int32)
    entry = np.repeat(np.arange(counts.nnz), leaving)
    source = np.searchsorted(counts.indptr, entry, side="right") - 1
    target = near[source, rng.integers(_N_LEAK_NEIGHBORS, size=entry.size)]
    arriving = sparse.coo_matrix(
        (np.ones(entry.size, dtype=np.int32), (target, counts.indices[entry])),
        shape=(n_cells, counts.shape[1]),
    )
    counts.data -= leaving
    leaked = sparse.csr_matrix(counts + arriving.tocsr())
    leaked.eliminate_zeros()
    leaked.sort_indices()
    return leaked
