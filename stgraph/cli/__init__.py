"""The command line: ``stgraph fit``, ``embed``, ``demo``, ``corpus`` and ``doctor``."""
