"""How well and at what cost: comparison, metrics, leaks and the report."""
