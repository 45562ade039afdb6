"""What the server takes and gives, as OpenAPI 3.1 says it."""

from __future__ import annotations

from typing import Any

from featx.serving.forms import MAX_IMAGES
from featx.versions import installed


def openapi(name: str, max_bytes: int) -> dict[str, Any]:
    """Return the OpenAPI document of a server.

    Parameters
    ----------
    name : str
        Of the model.
    max_bytes : int
        The largest body that is accepted.
    """
    binary = {"schema": {"type": "string", "format": "binary"}}
    files = {"type": "array", "maxItems": MAX_IMAGES, "items": binary["schema"]}
    form = {"schema": {"type": "object", "properties": {"image": files}}}
    label = {"label": {"type": "string"}}
    answer = {
        "type": "object",
        "properties": {
            "top": _list({**label, "probability": {"type": "number"}}),
            "near": _list({**label, "cosine": {"type": "number"}}),
            "error": {"type": "string", "description": "Of a form's image that cannot be used."},
        },
    }
    whole = {"type": "object", "properties": {"images": {"type": "array", "items": answer}}}
    version = installed(["featx"]).get("featx", "unknown")
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"featx: {name}",
            "version": version,
        },
        "paths": {
            "/predict": {
                "post": {
                    "summary": "The classes of an image, or of each image of a form",
                    "description": "The bytes of an image, with any content-type or none, for its "
                    f"bytes decide; or a form of at most {MAX_IMAGES} files. The body has at most "
                    f"{max_bytes:,} bytes. A form of several files is answered by a list, "
                    "images, in its order.",
                    "parameters": [
                        {
                            "name": "explain",
                            "in": "query",
                            "description": "1: also the nearest training images and the map of "
                            "what speaks for the first class, as data URLs; for one image.",
                            "schema": {"enum": ["1"]},
                        }
                    ],
                    "requestBody": {
                        "required": True,
                        "content": {"*/*": binary, "multipart/form-data": form},
                    },
                    "responses": {
                        "200": _json("The answer", {"oneOf": [answer, whole]}),
                        **{
                            code: _json(what, {"type": "object", "properties": {"error": {}}})
                            for code, what in {
                                "400": "Not a form that can be read",
                                "413": "Too large",
                                "422": "Not an image that can be used",
                                "503": "No answer in time, or the model is loading (Retry-After)",
                            }.items()
                        },
                    },
                }
            },
            "/metadata": {"get": _get("The model's name, classes, backbone and head")},
            "/health": {"get": _health()},
            "/metrics": {"get": _get("Counts and seconds, as Prometheus reads them", "text/plain")},
        },
    }


def _health() -> dict[str, Any]:
    said = {"type": "object", "properties": {"status": {"enum": ["ok", "loading"]}}}
    return {
        "summary": "Whether images are answered",
        "responses": {"200": _json("Yes: ok", said), "503": _json("Not yet: loading", said)},
    }


def _list(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": {"type": "object", "properties": properties}}


def _json(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _get(summary: str, kind: str = "application/json") -> dict[str, Any]:
    return {
        "summary": summary,
        "responses": {"200": {"description": summary, "content": {kind: {}}}},
    }
