"""The version of bnas, where those can read it that must not import the rest."""

__version__ = "0.1.0"
