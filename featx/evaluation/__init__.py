"""How well and at what cost: comparison, metrics and the report."""
