"""Monitors: profiles of chunks, what moved and whether that is evidence, readings, alerts, and pictures of them."""
