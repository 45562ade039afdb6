"""The images of a posted body: the body itself, or the files of a form."""

from __future__ import annotations

from email.message import Message

from starlette.exceptions import HTTPException

MAX_IMAGES = 32
"""The most images of one form."""


def images_of(body: bytes, content_type: str) -> list[bytes] | None:
    """Return the files of a form (multipart/form-data, RFC 7578); None for any other body.

    Fields that are not files are left out. One pass over the body, which is cut at its boundaries
    and nowhere else.

    Raises
    ------
    HTTPException
        400: the form has no boundary, no file, or too many files.
    """
    header = Message()
    header["content-type"] = content_type
    if header.get_content_type() != "multipart/form-data":
        return None
    boundary = header.get_boundary()
    if not boundary:
        raise HTTPException(400, "a form needs a boundary in its content-type")
    mark = b"\r\n--" + boundary.encode("latin-1", "replace")
    # One more than may be, fields included, so that too many are noticed and no more are cut.
    parts = (b"\r\n" + body).split(mark, 4 * MAX_IMAGES)
    files = []
    for part in parts[1:]:
        head, found, content = part.partition(b"\r\n\r\n")
        if part.startswith(b"--") or not found:
            break
        if b"filename=" in head.lower():
            files.append(content)
    if not files:
        raise HTTPException(400, "this form has no file: curl -F image=@photo.jpg sends one")
    if len(files) > MAX_IMAGES:
        raise HTTPException(400, f"a form may have at most {MAX_IMAGES} images")
    return files
