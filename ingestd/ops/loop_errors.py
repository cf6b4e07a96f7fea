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
    if error is not None and _is_of_http_client(context.get("future")) and _is_lost_connection(error):
        log.debug("a connection was lost while a request was sent", exc_info=error)
    else:
        loop.default_exception_handler(dict(context))


def _is_of_http_client(future: object) -> bool:
    """Whether it is a task that runs a function of the client."""
    code = getattr(future.get_coro(), "cr_code", None) if isinstance(future, asyncio.Task) else None
    return code is not None and any(folder in code.co_filename for folder in _HTTP_CLIENT)


def _is_lost_connection(error: BaseException) -> bool:
    from aiohttp import ClientConnectionError  # noqa: PLC0415  it is loaded where a task runs it, and slow elsewhere

    return isinstance(error, (ConnectionError, ClientConnectionError))
