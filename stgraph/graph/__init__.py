"""Coordinates and features to a `SliceGraph`: neighbours, virtual cells, statistics."""
