"""Plumbline: a declarative ML pipeline engine. Read `engine/api.py` first: it is the table of contents."""

__version__ = "0.1.0"
