"""Where the cells of the synthetic tissue lie: a fold of cortex, a vessel, a nodule.

The *tissue frame* is what all sections of one animal share: the pia's apex is above the
origin, one unit is the cortical thickness from pia to the lower edge of the white matter.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]

DOMAINS = ("L1", "L2/3", "L4", "L5", "L6", "WM", "nodule")
NODULE = DOMAINS.index("nodule")

MIN_SPACING_UM = 6.5
"""No two cell centres are nearer, microns: cells are solid."""

_AREA_PER_CELL_UM2 = 150.0
_LAYER_BOTTOM = np.array([0.10, 0.29, 0.44, 0.65, 0.84])
_PACKING = np.array([0.55, 1.0, 1.15, 0.85, 0.95, 0.75, 1.4])  # of DOMAINS, cells per area
_FOLD_RADIUS = 1.9  # of the pia
_HALF_WIDTH = 0.42  # radians
_BOX_X, _BOX_Y = (-0.95, 0.95), (-0.75, 0.75)  # holds the tissue, its warp included
_BOX_AREA = 1.9 * 1.5


@dataclass(frozen=True)
class _Wave:
    """A smooth random function of one variable: the outline of things that grew."""

    amplitude: FloatArray
    frequency: FloatArray
    phase: FloatArray

    def __call__(self, t: FloatArray) -> FloatArray:
        angles = t[:, None] * self.frequency + self.phase
        total: FloatArray = np.sin(angles) @ self.amplitude
        return total


@dataclass(frozen=True)
class Anatomy:
    """What all sections of one animal share, in the tissue frame."""

    pia: _Wave
    sides: _Wave
    lamina: _Wave
    nodule_center: FloatArray
    nodule_radius: float
    nodule_edge: _Wave
    vessel: FloatArray
    um_per_unit: float


@dataclass(frozen=True)
class Section:
    """What one cut changes: how it bent, how it lies on the slide, how it met the nodule."""

    warp: FloatArray
    warp_phase: FloatArray
    rotation: FloatArray
    shift_um: FloatArray
    nodule_growth: float


@dataclass(frozen=True)
class Place:
    """Tissue coordinates of N cells.

    ``depth`` runs from 0 at the pia to 1 below the white matter and ``lateral`` from -1 to 1;
    ``nodule`` is the signed distance to the nodule's edge in cortical thicknesses (negative
    inside) and ``vessel_um`` the distance to the nearest vessel in microns.
    """

    depth: FloatArray
    lateral: FloatArray
    nodule: FloatArray
    vessel_um: FloatArray
    inside: npt.NDArray[np.bool_]


def draw_anatomy(n_cells: int, rng: np.random.Generator) -> Anatomy:
    """Grow an animal whose sections hold ``n_cells`` at a realistic density."""
    lateral = rng.choice([-1.0, 1.0]) * rng.uniform(0.4, 0.55)
    unscaled = Anatomy(
        pia=_draw_wave(rng, 0.012, (3.0, 7.0, 17.0, 31.0)),
        sides=_draw_wave(rng, 0.02, (4.0, 9.0, 21.0, 37.0)),
        lamina=_draw_wave(rng, 0.042, (3.0, 8.0, 17.0)),
        nodule_center=_to_plane(np.array([lateral]), rng.uniform(0.42, 0.55, 1))[0],
        nodule_radius=0.15,
        nodule_edge=_draw_wave(rng, 0.012, (2.0, 3.0, 5.0)),
        vessel=_draw_vessel(-lateral, rng),
        um_per_unit=1.0,
    )
    # Density is fixed in microns, so the number of cells decides how large the tissue is.
    x, y = np.meshgrid(np.linspace(*_BOX_X, 160), np.linspace(*_BOX_Y, 160))
    packing = _packing(locate(unscaled, np.column_stack([x.ravel(), y.ravel()]))).mean()
    area = n_cells * _AREA_PER_CELL_UM2 / (_BOX_AREA * packing)
    return replace(unscaled, um_per_unit=float(np.sqrt(area)))


def draw_section(anatomy: Anatomy, rng: np.random.Generator) -> Section:
    """Cut, warp and mount one section."""
    angle = rng.normal(0.0, 0.08)
    cos, sin = np.cos(angle), np.sin(angle)
    return Section(
        warp=rng.uniform(0.005, 0.015, 2),
        warp_phase=rng.uniform(0.0, 2 * np.pi, 2),
        rotation=np.array([[cos, -sin], [sin, cos]]),
        # The tissue spans less than one unit to either side: positions stay positive.
        shift_um=anatomy.um_per_unit * (1.1 + rng.uniform(-0.04, 0.04, 2)),
        nodule_growth=rng.uniform(0.92, 1.08),
    )


def place_cells(anatomy: Anatomy, section: Section, n_cells: int, rng: np.random.Generator) -> tuple[FloatArray, Place]:
    """Positions on the slide, (N, 2) in microns, and what tissue lies there.

    Random sequential addition: cells arrive in random order and settle where the tissue
    wants them unless an earlier one is nearer than `MIN_SPACING_UM`.
    """
    flat = np.empty((0, 2))
    settled = np.empty(0, dtype=np.intp)
    while settled.size < n_cells:
        flat = np.vstack([flat, _candidates(anatomy, section, rng)])
        settled = _hard_core(flat, MIN_SPACING_UM)
    flat = flat[settled[:n_cells]]
    place = locate(anatomy, _unwarp(anatomy, section, flat), section.nodule_growth)
    return flat @ section.rotation.T + section.shift_um, place


def locate(anatomy: Anatomy, points: FloatArray, nodule_growth: float = 1.0) -> Place:
    """Tissue coordinates of points of the tissue frame."""
    x, y = points[:, 0], points[:, 1] + _FOLD_RADIUS - 0.5
    angle = np.arctan2(x, y)
    below_pia = _FOLD_RADIUS - np.hypot(x, y) - anatomy.pia(angle)
    # Layers undulate between two surfaces that do not: the pia and the ventricle.
    depth = below_pia + anatomy.lamina(angle) * np.sin(np.pi * np.clip(below_pia, 0.0, 1.0))
    from_nodule = points - anatomy.nodule_center
    radius = anatomy.nodule_radius * nodule_growth + anatomy.nodule_edge(np.arctan2(*from_nodule.T))
    vessel: FloatArray = cKDTree(anatomy.vessel).query(points)[0]
    return Place(
        depth=depth,
        lateral=angle / _HALF_WIDTH,
        nodule=np.hypot(*from_nodule.T) - radius,
        vessel_um=vessel * anatomy.um_per_unit,
        inside=(below_pia > 0.0)
        & (below_pia < 1.0 + anatomy.sides(2 * angle))
        & (np.abs(angle) < _HALF_WIDTH + anatomy.sides(below_pia + np.sign(angle))),
    )


def domain_codes(depth: FloatArray, nodule: FloatArray) -> IntArray:
    """Index into `DOMAINS`: the layer, unless the nodule overgrew it."""
    return np.where(nodule < 0.0, NODULE, np.searchsorted(_LAYER_BOTTOM, depth, side="right"))


def _draw_wave(rng: np.random.Generator, amplitude: float, frequencies: tuple[float, ...]) -> _Wave:
    frequency = np.array(frequencies)
    # Fine ripples are lower than broad swells, as in any natural outline.
    heights = amplitude * np.sqrt(frequency[0] / frequency) * rng.uniform(0.6, 1.4, frequency.size)
    return _Wave(heights, frequency, rng.uniform(0.0, 2 * np.pi, frequency.size))


def _draw_vessel(lateral: float, rng: np.random.Generator) -> FloatArray:
    """Points along a vessel that dives from the pia and sends a branch sideways."""
    depth = np.linspace(0.0, 0.92, 600)
    trunk = lateral + 0.12 * np.sin(5.0 * depth + rng.uniform(0.0, 2 * np.pi))
    along = np.linspace(0.0, 1.0, 400)
    fork = rng.integers(220, 330)
    branch_lateral = trunk[fork] - np.sign(lateral) * 0.75 * along
    branch_depth = depth[fork] + 0.22 * along**2 + 0.03 * np.sin(6.0 * along)
    return np.vstack([_to_plane(trunk, depth), _to_plane(branch_lateral, branch_depth)])


def _to_plane(lateral: FloatArray, depth: FloatArray) -> FloatArray:
    """Undo `locate`, but for the undulations."""
    angle, radius = lateral * _HALF_WIDTH, _FOLD_RADIUS - depth
    return np.column_stack([radius * np.sin(angle), radius * np.cos(angle) - _FOLD_RADIUS + 0.5])


def _unwarp(anatomy: Anatomy, section: Section, flat: FloatArray) -> FloatArray:
    """From microns in the section to the tissue frame.

    The warp bends the anatomy under the cells, not the cells: spacing stays exact.
    """
    points = flat / anatomy.um_per_unit
    return points + section.warp * np.sin(4.0 * points[:, ::-1] + section.warp_phase)


def _packing(place: Place) -> FloatArray:
    return np.where(place.inside, _PACKING[domain_codes(place.depth, place.nodule)], 0.0)


def _candidates(anatomy: Anatomy, section: Section, rng: np.random.Generator) -> FloatArray:
    """Twice the points the tissue will hold, in its proportions, free to overlap; microns."""
    n_drawn = int(2 * _BOX_AREA * anatomy.um_per_unit**2 * _PACKING.max() / _AREA_PER_CELL_UM2)
    points = np.column_stack([rng.uniform(*_BOX_X, n_drawn), rng.uniform(*_BOX_Y, n_drawn)])
    flat = points * anatomy.um_per_unit
    place = locate(anatomy, _unwarp(anatomy, section, flat), section.nodule_growth)
    taken: FloatArray = flat[rng.uniform(0.0, _PACKING.max(), n_drawn) < _packing(place)]
    return taken


def _hard_core(points: FloatArray, spacing: float) -> IntArray:
    """Index the points that no earlier kept point is nearer to than ``spacing``."""
    rivals = cKDTree(points).query_pairs(spacing, output_type="ndarray")
    lost = np.zeros(len(points), dtype=bool)
    while rivals.size:
        # A point without earlier rivals is safe, so its later ones lose; repeat on the rest.
        safe = np.ones(len(points), dtype=bool)
        safe[rivals[:, 1]] = False
        lost[rivals[safe[rivals[:, 0]], 1]] = True
        rivals = rivals[~lost[rivals].any(axis=1)]
    return np.flatnonzero(~lost)
