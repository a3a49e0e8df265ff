"""What goes wrong, said so that the user can mend it."""


class StgraphError(Exception):
    """Base of every error stgraph raises on purpose.

    The command line prints its message as one sentence and exits with code 2.
    """


class InputError(StgraphError, ValueError):
    """The data, an option or a file given by the user cannot be used."""


class TrustError(InputError):
    """A config names code of a package that was not declared trusted."""


class CheckpointError(StgraphError):
    """A model directory cannot be used: missing, damaged, or of another version."""


class StoreError(StgraphError):
    """A corpus of shards cannot be used: missing, unfinished, damaged, or of another version."""


class TrainingError(StgraphError):
    """Training cannot go on: the loss is no longer finite."""


class StgraphWarning(UserWarning):
    """Something the user should know that does not stop the work.

    The command line prints these as notes and puts them into the report.
    """
