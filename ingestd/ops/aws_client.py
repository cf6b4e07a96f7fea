"""One client of an AWS service for many calls at once, which is replaced where its credentials are refused."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, AsyncExitStack, asynccontextmanager
from typing import Generic, TypeVar

from ingestd.ops.aws_session import AwsSession, new_session

Client = TypeVar("Client")


class _Connection(Generic[Client]):
    """A client, and how many calls are using it. The last of them closes a retired one."""

    def __init__(self, client: Client, stack: AsyncExitStack) -> None:
        self.client = client
        self.stack = stack
        self.users = 0
        self.retired = False


class AwsClient(Generic[Client]):
    """Lends its client. It is opened by the first call, and by the first after `close`.

    A client keeps the credentials it found first, or none. So after an error of the class `refused` the next call
    opens a new one, which looks for them again; the calls on their way end with the old one.
    """

    def __init__(
        self, open_client: Callable[[AwsSession], AbstractAsyncContextManager[Client]], refused: type[Exception]
    ) -> None:
        self._open_client = open_client
        self._refused = refused
        self._current: _Connection[Client] | None = None
        self._opening = asyncio.Lock()
        self._loader: object = None

    async def close(self) -> None:
        """Close the client; calls on their way fail."""
        if self._current is not None:
            connection, self._current = self._current, None
            await connection.stack.aclose()

    @asynccontextmanager
    async def lend(
        self, timeout_s: float, *, errors: AbstractContextManager[None], settings: AbstractContextManager[None]
    ) -> AsyncIterator[Client]:
        """The client for one call, with a deadline. `errors` maps what is raised, `settings` what opening raises."""
        connection: _Connection[Client] | None = None
        try:
            with errors:
                async with asyncio.timeout(timeout_s):
                    with settings:
                        connection = await self._connect()
                    connection.users += 1
                    yield connection.client
        except self._refused:
            if connection is not None and connection is self._current:
                connection.retired, self._current = True, None
            raise
        finally:
            if connection is not None:
                connection.users -= 1
                if connection.retired and not connection.users:
                    await connection.stack.aclose()

    async def _connect(self) -> _Connection[Client]:
        async with self._opening:
            if self._current is None:
                self._current = await self._open()
            return self._current

    async def _open(self) -> _Connection[Client]:
        session = new_session()
        # Reading the description of the service is most of what a client costs, and it never changes.
        if self._loader is not None:
            session.register_component("data_loader", self._loader)
        self._loader = session.get_component("data_loader")
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(self._open_client(session))
            return _Connection(client, stack.pop_all())
