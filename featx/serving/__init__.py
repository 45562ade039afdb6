"""A small web server: drop an image on a page, or post one, and get its classes."""

from featx.serving.app import MAX_BYTES, create_app, run

__all__ = ["MAX_BYTES", "create_app", "run"]
