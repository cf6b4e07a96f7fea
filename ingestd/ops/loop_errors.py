"""Tells errors that the event loop finds in tasks that nobody waits for.

aiohttp sends a request's body in a task of its own. Where the connection is lost meanwhile, the request fails, and its
caller tells or retries; the task's own error is the same loss again, and aiohttp does not ask for it.
"""

import asyncio
import logging
import os
from collections.abc import Mapping
from typing import Any

log = logging.getLogger(__name__)

_HTTP_CLIENT = tuple(f"{os.sep}{library}{os.sep}" for library in ("aiohttp", "aiohappyeyeballs"))


def handle(loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
    """Log an error at ERROR, as the loop does; at DEBUG where a task of the HTTP client has lost its connection."""
    error = context.get("exception")
    if isinstance(context.get("future"), asyncio.Task) and error is not None and _is_lost_by_http_client(error):
        log.debug("a connection was lost while a request was sent", exc_info=error)
    else:
        loop.default_exception_handler(dict(context))


def _is_lost_by_http_client(error: BaseException) -> bool:
    """Whether it tells of a connection, and the task that it has ended runs a function of the client."""
    outermost = error.__traceback__
    if outermost is None or not any(folder in outermost.tb_frame.f_code.co_filename for folder in _HTTP_CLIENT):
        return False
    from aiohttp import ClientConnectionError  # noqa: PLC0415  it is loaded where a task runs it, and slow elsewhere

    return isinstance(error, (ConnectionError, ClientConnectionError))
