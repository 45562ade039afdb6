"""Gradient-boosted trees: the XGBoost head and its checked model format."""
