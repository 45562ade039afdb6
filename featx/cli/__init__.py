"""The command line: options, messages and tables."""
