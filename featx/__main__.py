"""The command line, started as `python -m featx`."""

from __future__ import annotations

from featx.cli.app import main

if __name__ == "__main__":
    main()
