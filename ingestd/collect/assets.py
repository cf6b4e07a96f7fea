"""Files that the collector serves: the OpenAPI document, and our script for web pages."""

import gzip
import hashlib
from collections.abc import Mapping
from pathlib import Path

import msgspec

_FILES = {
    "openapi.json": "application/json",
    "ingestd.js": "text/javascript; charset=utf-8",
}


class Asset(msgspec.Struct, frozen=True):
    """A file with the headers that browsers need to keep it, and to use it in pages of other origins."""

    body: bytes
    gzipped: bytes
    etag: str
    headers: Mapping[str, str]


def load_assets(folder: Path = Path(__file__).parent) -> dict[str, Asset]:
    """The files in `folder` by their paths in URLs."""
    return {f"/{name}": _load(file, kind) for name, kind in _FILES.items() if (file := folder / name).is_file()}


def _load(file: Path, content_type: str) -> Asset:
    body = file.read_bytes()
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {
        "Content-Type": content_type,
        "ETag": etag,
        "Cache-Control": "public, max-age=3600",
        "Vary": "Accept-Encoding",
        "Cross-Origin-Resource-Policy": "cross-origin",
        "Access-Control-Allow-Origin": "*",
    }
    return Asset(body, gzip.compress(body, mtime=0), etag, headers)
