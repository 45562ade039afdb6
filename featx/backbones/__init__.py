"""The frozen networks: a table of architectures, their options and their weights."""
