"""Pictures on the wire: base64, with or without a data URL's beginning."""

from __future__ import annotations

import base64
import binascii
import html
from pathlib import Path

from hayate.errors import UsageError

_FETCHED = ("http://", "https://", "ftp://", "file://")


def decode_image(text: str, title: str = "the picture") -> bytes:
    """The bytes of a picture in base64.

    An address is refused: a server that fetches for its callers reaches what they can't.
    Raises: UsageError.
    """
    text = text.strip()
    if text[:8].casefold().startswith(_FETCHED):
        raise UsageError(f"{title} is an address, and nothing is fetched", hint="send the file itself, as base64")
    if text.startswith("data:"):
        kind, _, text = text.partition(",")
        if not kind.startswith("data:image/") or not kind.endswith(";base64"):
            raise UsageError(f"{title} is no picture in base64", hint="data:image/png;base64,… or the base64 alone")
    try:
        data = base64.b64decode(text if len(text.split(None, 1)) == 1 else "".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise UsageError(f"{title} is no base64", hint="send the file's bytes as base64") from None
    if not data:
        raise UsageError(f"{title} is empty", hint="send the file's bytes as base64")
    return data


def encode_file(path: Path | str) -> str:
    """A file's bytes as they are, with all that it says about itself.

    Raises: UsageError.
    """
    try:
        return base64.b64encode(Path(path).read_bytes()).decode("ascii")
    except OSError as error:
        raise UsageError(
            f"the picture {path} can't be read: {error.strerror}", hint="was it moved meanwhile?"
        ) from error


def data_url(jpeg: bytes) -> str:
    """A preview as a page shows it."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode('ascii')}"


def plaintext_to_html(text: str) -> str:
    """Lines as a paragraph; nothing in them is markup."""
    return f"<p>{'<br>'.join(html.escape(line) for line in text.splitlines())}</p>"
