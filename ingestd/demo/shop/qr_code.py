"""The address of the shop for phones in the same network, and its QR code, made here."""

import io
import socket

import segno

from ingestd.core.formatting import address
from ingestd.ops.http import is_loopback

_ANY = {"0.0.0.0", "::"}  # noqa: S104 - compared with, not bound to
_ELSEWHERE = ("192.0.2.1", 9)  # an address that is nobody's (RFC 5737): the socket is connected, and nothing is sent


def shop_url(host: str, port: int) -> str | None:
    """The shop as other machines reach it; None where only this machine can."""
    reached = _own_address() if host in _ANY else host
    return f"http://{address(reached, port)}/shop" if reached and not is_loopback(reached) else None


def _own_address() -> str | None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_ELSEWHERE)
        except OSError:  # no network
            return None
        own: str = probe.getsockname()[0]
        return own


def qr_code(text: str) -> bytes:
    """A picture of `text`, as SVG."""
    picture = io.BytesIO()
    segno.make(text, micro=False).save(picture, kind="svg", scale=4, border=2, light="#fff")
    return picture.getvalue()
