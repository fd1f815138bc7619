"""data: URLs (RFC 2397), as pictures come in them."""

import base64
import binascii
from urllib.parse import unquote_to_bytes

from sumi.errors import ImageError
from sumi.store.images import MAX_BYTES

MOST_ESCAPES = 100_000


def data_url(url: str) -> bytes:
    """What a data: URL holds. Base64 as browsers take it: blanks are skipped, and the padding may be missing. ImageError if it is none."""
    header, comma, body = url.partition(",")
    if header == url == "data:":
        raise ImageError("a picture's file does not keep a data URL as long as that which it was made from: give it again, or a path")
    if not comma:
        raise ImageError("the data URL has no comma: write it as in data:image/png;base64,iVBORw0KGgo...")
    if body.count("%") > MOST_ESCAPES:  # each is made an object of its own
        raise ImageError("the data URL spells too many of its bytes by their numbers: encode the file as base64")
    data = unquote_to_bytes(body)
    if header.lower().rstrip().endswith(";base64"):
        letters = data.translate(None, b" \t\r\n\f\v").rstrip(b"=")
        try:
            data = base64.b64decode(letters + b"=" * (-len(letters) % 4), validate=True)
        except binascii.Error as error:
            raise ImageError("the data URL is not base64, as it says: encode the file again, or give its path") from error
    if len(data) > MAX_BYTES:
        raise ImageError(f"the data URL is longer than {MAX_BYTES >> 20} MiB: make the picture smaller")
    return data
