"""A small web server: drop an image on a page, or post one, and get its classes."""

from featx.serving.app import LOADING, MAX_BYTES, create_app, run

__all__ = ["LOADING", "MAX_BYTES", "create_app", "run"]
