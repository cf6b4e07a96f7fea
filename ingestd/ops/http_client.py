"""One request to a server outside, with bounds on time and size: OAuth, Snowflake's REST, Amazon SNS, schemas."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

if TYPE_CHECKING:
    from ssl import SSLContext

    from aiohttp import ClientTimeout, StreamReader

STEP_TIMEOUT_S = 10.0  # to connect, and without a byte, unless the caller grants more
MAX_ANSWER_BYTES = 1 << 20
NO_HEADERS: Mapping[str, str] = {}


class HttpAnswer(NamedTuple):
    """What a server answered; the body is cut at the limit."""

    status: int
    body: bytes


class HttpFailure(Exception):
    """No answer: the server cannot be reached, or the time is over. `code` is the error's class."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error) or type(error).__name__)
        self.code = type(error).__name__


async def post(
    url: str,
    data: bytes | Mapping[str, str],
    headers: Mapping[str, str],
    *,
    timeout_s: float,
    step_timeout_s: float = STEP_TIMEOUT_S,
    max_bytes: int = MAX_ANSWER_BYTES,
) -> HttpAnswer:
    """Send `data`, a body or the fields of a form. Raises ``HttpFailure``.

    Redirects are not followed: they would carry our credentials to another host. Proxies come from the environment.
    """
    headers = {"Accept": "application/json", **headers}
    return await _request("POST", url, headers, _timeout(timeout_s, step_timeout_s), max_bytes=max_bytes, data=data)


async def get(
    url: str,
    *,
    timeout_s: float,
    step_timeout_s: float = STEP_TIMEOUT_S,
    max_bytes: int = MAX_ANSWER_BYTES,
    headers: Mapping[str, str] = NO_HEADERS,
    tls: "SSLContext | None" = None,
) -> HttpAnswer:
    """GET `url`. Raises ``HttpFailure``. Redirects are not followed: who answers matters."""
    return await _request("GET", url, headers, _timeout(timeout_s, step_timeout_s), max_bytes=max_bytes, tls=tls)


def _timeout(total_s: float, step_s: float) -> "ClientTimeout":
    from aiohttp import ClientTimeout  # noqa: PLC0415  it takes long to load, and few daemons call out

    return ClientTimeout(total=total_s, sock_connect=step_s, sock_read=step_s)


async def _request(
    method: str,
    url: str,
    headers: Mapping[str, str],
    timeout: "ClientTimeout",  # noqa: ASYNC109  the client's own type
    *,
    max_bytes: int,
    data: bytes | Mapping[str, str] | None = None,
    tls: "SSLContext | None" = None,
) -> HttpAnswer:
    import aiohttp  # noqa: PLC0415  as above

    headers = {"Accept-Encoding": "identity", **headers}
    proxy = _proxy(url)
    try:
        async with (
            aiohttp.ClientSession(auto_decompress=False, timeout=timeout) as session,
            session.request(
                method, url, data=data, headers=headers, proxy=proxy, allow_redirects=False, ssl=tls or True
            ) as answer,
        ):
            return HttpAnswer(answer.status, await _read(answer.content, max_bytes))
    except (OSError, TimeoutError, aiohttp.ClientError) as error:
        raise HttpFailure(error) from None


def _proxy(url: str) -> str | None:
    """The proxy for `url` from HTTP_PROXY, HTTPS_PROXY and NO_PROXY.

    aiohttp's `trust_env` would also read ~/.netrc, and refuse to send our header where it has a password for the host.
    """
    parts = urlsplit(url)
    proxy = None if proxy_bypass(parts.netloc) else getproxies().get(parts.scheme)
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy or None


async def _read(content: "StreamReader", max_bytes: int) -> bytes:
    body = bytearray()
    async for piece in content.iter_any():
        body += piece
        if len(body) >= max_bytes:
            break
    return bytes(body[:max_bytes])
