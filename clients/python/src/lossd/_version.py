"""The version of this package: a copy of the file VERSION, made by `make version`."""

__version__ = "0.1.0"
