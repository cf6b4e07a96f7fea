"""Connections of asyncio's own servers."""

import asyncio
from contextlib import suppress


async def close(writer: asyncio.StreamWriter) -> None:
    """Close a connection, and wait for that: a loop that ends before warns of it in whatever test comes next."""
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
