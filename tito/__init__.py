"""The command line of the course."""

__version__ = "0.1.0"
