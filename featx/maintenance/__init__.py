"""Listing, cleaning, compacting and verifying a cache, and diagnosing its disk."""
