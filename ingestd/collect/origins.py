"""Which web pages may send: the allow-list that the server itself checks, and the headers of CORS. Pure.

CORS alone keeps nobody out: a page of any origin may post text/plain, only the answer is kept from it.
"""

import re
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

MAX_AGE_S = 7200  # of a preflight's answer: Chromium keeps none longer
ANY = "*"

_DEFAULT_PORTS = {"http": 80, "https": 443}
_SUBDOMAIN = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")
_HEADER_NAMES = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+(?:[ \t]*,[ \t]*[A-Za-z0-9!#$%&'*+.^_`|~-]+)*")
_MAX_HEADER_NAMES = 1024  # characters


class Origins:
    """An allow-list: origins as browsers send them, ``https://*.example.com`` for all its subdomains, or ``*``."""

    def __init__(self, allowed: Iterable[str]) -> None:
        exact, suffixes = set(), []
        for text in allowed:
            scheme, separator, rest = text.partition("://*.")
            if separator:
                _, _, tail = normalise(f"{scheme}://x.{rest}").partition("://x")
                suffixes.append((f"{scheme.lower()}://", tail))
            else:
                exact.add(normalise(text))
        self.allows_any = ANY in exact
        self._exact = frozenset(exact)
        self._suffixes = tuple(suffixes)

    def allow(self, origin: str) -> bool:
        """Whether a page of `origin`, the value of its header, may send."""
        origin = normalise(origin)
        if self.allows_any or origin in self._exact:
            return True
        return any(
            origin.startswith(scheme)
            and origin.endswith(suffix)
            and _SUBDOMAIN.fullmatch(origin[len(scheme) : len(origin) - len(suffix)])
            for scheme, suffix in self._suffixes
        )


def normalise(origin: str) -> str:
    """An origin in lower case and without its scheme's default port; anything else as it is."""
    origin = origin.strip().rstrip("/").lower()
    try:
        parts = urlsplit(origin)
        if parts.port is not None and _DEFAULT_PORTS.get(parts.scheme) == parts.port:
            return origin.removesuffix(f":{parts.port}")
    except ValueError:  # not a URL
        pass
    return origin


def answer_headers(origin: str, *, any_origin: bool) -> dict[str, str]:
    """The headers with which a page of an allowed origin may read the answer."""
    headers = {"Vary": "Origin", "Access-Control-Expose-Headers": "Ingestd-Ack, Retry-After"}
    if any_origin:
        headers["Access-Control-Allow-Origin"] = ANY
    else:
        headers["Access-Control-Allow-Origin"] = origin
        # Some SDKs send with credentials, and take an answer without this for a failure. No cookie is ever read or set.
        headers["Access-Control-Allow-Credentials"] = "true"
    return headers


def preflight_headers(request: Mapping[str, str], methods: Iterable[str], *, any_origin: bool) -> dict[str, str]:
    """The answer to a preflight of an allowed origin. Access to private networks is not granted."""
    headers = answer_headers(request["origin"], any_origin=any_origin)
    headers["Vary"] = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"
    headers["Access-Control-Allow-Methods"] = ", ".join(methods)
    headers["Access-Control-Max-Age"] = str(MAX_AGE_S)
    names = request.get("access-control-request-headers", "")
    if len(names) <= _MAX_HEADER_NAMES and _HEADER_NAMES.fullmatch(names):
        headers["Access-Control-Allow-Headers"] = names
    return headers
