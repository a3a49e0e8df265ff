"""What is recorded of each step."""

import math

from stgraph.errors import TrainingError

Record = dict[str, float]
"""One step: step, epoch, every loss by name, learning rate, cells_per_second."""


def check_finite(record: Record) -> None:
    """Raise `stgraph.errors.TrainingError` if a loss of a step is not finite.

    Examples
    --------
    >>> from stgraph.training.records import check_finite
    >>> check_finite({"step": 1, "loss": 0.5})
    """
    for name, value in record.items():
        if not math.isfinite(value):
            raise TrainingError(
                f"The loss '{name}' is {value} at step {int(record['step'])}: try a smaller trainer.lr, "
                "trainer.precision=32-true, or look for outliers in the counts."
            )
