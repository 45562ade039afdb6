"""Figures of predictions: metrics, intervals, costs and their summary."""
