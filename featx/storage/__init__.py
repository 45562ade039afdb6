"""Entries that are whole, durable and checksummed, or absent; strict JSON."""
