"""Any distance bias, evaluated at a few thousand knots instead of at every edge."""

import math
import warnings

import torch
from torch import Tensor, nn

from stgraph.errors import StgraphWarning
from stgraph.nn.table_lookup import JUST_ABOVE_ZERO, KnotGrid, cell_bounds, cell_of, table_lookup

_LEAST_INTERVALS, _MOST_INTERVALS = 2, 1024
"""Into how many a cell may be divided."""


class TabulatedBias(nn.Module):
    """A distance bias on a table that is made anew in each call, and interpolated linearly for each edge.

    A bias is a function of one number and of the type of the edge. So it is evaluated at knots along the distance, for
    each type, and edges look it up; gradients go through the interpolation to the knots, and from there to the
    parameters of the bias. Knots lie densely where the bias bends: cells 1/64 of a power of two of ``1 + distance``
    wide are divided into ever more intervals, until the bias in the middle of each is within half the tolerance of its
    interpolation. SToFM's bias of 128 Gaussians takes 1000 to 2000 knots; evenly spaced along the logarithm they would
    have to be more than 16,000. What is narrower than the quarter of a cell at which the bias is looked at first (1/256
    at distance 0) could be missed: a bias that may have such places names them by a method ``narrow_places()``, as
    `stgraph.nn.distance_bias.SToFMGaussianBias` does, whose narrowest Gaussian often is. What even the finest knots
    cannot follow is warned of.

    Where knots lie depends on the bias alone and on no other edge, so a part of a slice finds what the whole slice
    does. Distances beyond ``max_distance`` have knots, too: nothing is clamped. A distance of exactly 0 gets the value
    at 0, whatever the bias is just above it.

    Parameters
    ----------
    exact
        A `stgraph.nn.distance_bias.DistanceBias`, finite and continuous but for 0; its random choices, if any, would be
        drawn for knots. A cut-off belongs around the table, not inside.
    max_distance
        The bias up to here is what the tolerance is measured by.
    tolerance
        Error allowed, as a share of the range of the bias, that of the head where it is largest.

    Shapes
    ------
    distance, edge_type : (E,)
    output : (E, H)

    Raises
    ------
    ValueError
        If a distance is negative or not finite, or an edge type unknown, or the bias is not finite.

    Examples
    --------
    >>> import torch
    >>> from stgraph.nn.distance_bias import GaussianBias, TabulatedBias
    >>> exact = GaussianBias(heads=4)
    >>> distance, edge_type = 50 * torch.rand(1000), torch.zeros(1000, dtype=torch.long)
    >>> error = TabulatedBias(exact)(distance, edge_type) - exact(distance, edge_type)
    >>> bool(error.abs().max() < 1e-3)
    True
    """

    def __init__(self, exact: nn.Module, max_distance: float = 100.0, tolerance: float = 1e-3) -> None:
        super().__init__()
        if not 0 < max_distance < math.inf or not 0 < tolerance < math.inf:
            raise ValueError(
                f"TabulatedBias needs finite max_distance and tolerance above 0, not {max_distance} and {tolerance}."
            )
        self.exact = exact
        self.max_distance = max_distance
        self.tolerance = tolerance

    @property
    def heads(self) -> int:
        """H, of the bias on the table."""
        return int(self.exact.heads)  # type: ignore[arg-type]

    @property
    def num_edge_types(self) -> int | None:
        """Edge types that the bias on the table tells apart."""
        return self.exact.num_edge_types  # type: ignore[return-value]

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # How many knots there are depends on the parameters.
    def forward(self, distance: Tensor, edge_type: Tensor) -> Tensor:
        """Bias of each edge and head."""
        if distance.dtype in (torch.bfloat16, torch.float16):
            distance = distance.float()
        grid = self.place_knots(distance)
        return table_lookup(self._values(*grid.points), grid, distance, self._told_apart(edge_type))

    @torch.no_grad()
    def place_knots(self, distance: Tensor) -> KnotGrid:
        """Choose knots for the bias as it is now, as far as the farthest of (E,) distances."""
        distance = distance.detach()
        bound = distance.new_tensor([self.max_distance])
        farthest = torch.cat([bound, distance]).max()
        if not torch.isfinite(farthest):
            raise ValueError("There are distances that are not finite.")
        within, num_cells = (int(cell_of(x)) + 1 for x in (bound, farthest))
        left = cell_bounds(num_cells, distance)
        types = 1 if self.num_edge_types is None else self.num_edge_types
        kind, cell = (x.flatten() for x in torch.meshgrid(*map(torch.arange, (types, num_cells)), indexing="ij"))
        kind, cell = kind.to(distance.device), cell.to(distance.device)
        count = torch.full((types * num_cells,), _LEAST_INTERVALS, device=distance.device)

        def at(share: Tensor, which: Tensor) -> Tensor:
            begin, end = left[cell[which], None], left[cell[which] + 1, None]
            points = torch.lerp(begin, end, share.to(left)).clamp_min(JUST_ABOVE_ZERO)
            values = self._values(points.flatten(), kind[which].repeat_interleave(len(share)))
            return values.view(*points.shape, -1)

        which = torch.arange(len(cell), device=distance.device)
        intervals = _LEAST_INTERVALS
        knots = at(torch.arange(intervals + 1) / intervals, which)
        known = knots[cell < within].flatten(0, 1)
        lowest, highest = known.amin(0), known.amax(0)
        narrowest = self._narrowest(left).repeat(types)
        while len(which):
            middle = at((torch.arange(intervals) + 0.5) / intervals, which)
            error = (middle - (knots[:, 1:] + knots[:, :-1]) / 2).abs().amax((1, 2))
            known = middle[cell[which] < within].flatten(0, 1)
            if len(known):
                lowest, highest = torch.minimum(lowest, known.amin(0)), torch.maximum(highest, known.amax(0))
            # Where it is all rounding there is nothing to gain.
            rounding = 8 * torch.finfo(middle.dtype).eps * middle.abs().amax((1, 2))
            coarse = error > torch.maximum(rounding, self.tolerance * (highest - lowest).max() / 2)
            coarse |= left.diff()[cell[which]] / intervals > narrowest[which]
            which = which[coarse]
            if len(which) and intervals == _MOST_INTERVALS:
                # The same text each time, so that Python says it once and not at every step
                warnings.warn(
                    f"{type(self.exact).__name__} jumps, or bends too sharply for its table: in places it is not "
                    f"within the tolerance of {self.tolerance}. A larger tolerance, or the exact bias, is the way out.",
                    StgraphWarning,
                    stacklevel=2,
                )
                break
            both = torch.stack([knots[coarse, :-1], middle[coarse]], dim=2).flatten(1, 2)
            knots = torch.cat([both, knots[coarse, -1:]], dim=1)
            intervals *= 2
            count[which] = intervals
        return KnotGrid.from_counts(count.view(types, num_cells), left)

    def _narrowest(self, left: Tensor) -> Tensor:
        """(J,) length that intervals of each cell must not exceed."""
        longest = left.diff()
        if not hasattr(self.exact, "narrow_places"):
            return longest
        place, width = (x.to(left) for x in self.exact.narrow_places())  # type: ignore[operator]
        place, width = torch.cat([place - 3 * width, place, place + 3 * width]), width.repeat(3)
        inside = (place >= 0) & (place < left[-1])
        return longest.scatter_reduce(0, cell_of(place[inside]), width[inside], "amin")

    def _values(self, distance: Tensor, edge_type: Tensor) -> Tensor:
        """The exact bias, in full precision: knots are few, and rounded ones would look like bends."""
        with torch.autocast(distance.device.type, enabled=False):
            values: Tensor = self.exact(distance, edge_type)
        if not torch.isfinite(values).all():
            raise ValueError(
                f"{type(self.exact).__name__} is not finite everywhere, so it cannot be tabulated: put a cut-off "
                "around the table, as in CutoffBias(TabulatedBias(...), envelope)."
            )
        return values

    def _told_apart(self, edge_type: Tensor) -> Tensor | None:
        return None if self.num_edge_types is None else edge_type
