"""The command line: ``stgraph fit``, ``embed`` and ``demo``."""
