"""Measuring models: metrics with bootstrap intervals, slices, curves, the evaluation document, the gates' verdict."""
