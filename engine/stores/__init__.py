"""Stores: artefacts, snapshots, and the state database with its registry and run index."""
