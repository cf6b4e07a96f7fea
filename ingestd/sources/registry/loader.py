"""Fetches the schemas that records need before they are decoded; holds the records while the registry is away."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from random import Random

from ingestd.config.model import RegistryConfig
from ingestd.core.backoff import backoff
from ingestd.core.records import Record
from ingestd.core.rejections import Reason
from ingestd.core.values.base import Decode, RegistryStatus, Schema, SchemaError, SchemaRef
from ingestd.core.values.decoder import RegistryDecoder, Unusable, compile_schema
from ingestd.sources.error_state import ErrorState
from ingestd.sources.registry.client import RegistryClient, RegistryUnavailable

RETRY_INITIAL_S, RETRY_MAX_S = 0.2, 5.0
CONCURRENCY = 8
_OPERATION = "schema registry"

Compile = Callable[[Schema], Awaitable[Decode | Unusable]]


class RegistryValues(RegistryDecoder):
    """A decoder that gets its schemas from a registry."""

    def __init__(self, client: RegistryClient, config: RegistryConfig, compile_one: Compile | None = None) -> None:
        """`compile_one` is for tests; by default schemas are compiled in a thread: a large .proto takes seconds."""
        super().__init__(config.cache_schemas)
        self._compile: Compile = compile_one or _in_thread
        self.client = client
        self._keep_unknown_s = float(config.keep_unknown)
        self._errors = ErrorState()
        self._ask_again: dict[SchemaRef, float] = {}  # on the loop's clock: schemas that did not exist
        self._waiting = 0  # calls of `prepare` that wait for the registry
        self._finished = asyncio.Event()
        self._random = Random()

    @property
    def error(self) -> str | None:
        return self._errors.error

    @property
    def error_since(self) -> float | None:
        return self._errors.since

    def registry_status(self) -> RegistryStatus:
        """As `ValueSource.registry_status`."""
        return RegistryStatus(requests=self.client.requests, failures=self.client.failures, schemas=len(self))

    def finish(self) -> None:
        self._finished.set()

    async def try_prepare(self, records: Iterable[Record]) -> str | None:
        """As `ValueSource.try_prepare`."""
        self._expire()
        self.trim()
        try:
            while missing := self.missing(records):  # during a fetch, other calls may forget what is needed here
                await self._fetch_all(missing)
        except RegistryUnavailable as error:
            return str(error)
        return None

    async def prepare(self, records: Iterable[Record], wanted: Callable[[], bool]) -> bool:
        """As `ValueSource.prepare`. A registry that is away is asked again and again; no record is rejected for it."""
        why = await self.try_prepare(records)
        if why is None:
            return True
        self._waiting += 1
        try:
            return await self._wait(records, wanted, why)
        finally:
            self._waiting -= 1
            if not self._waiting and not self._finished.is_set():
                self._errors.end(_OPERATION)

    async def _wait(self, records: Iterable[Record], wanted: Callable[[], bool], why: str | None) -> bool:
        attempt = 0
        while why is not None:
            self._errors.begin(_OPERATION, f"schema registry unavailable, records are held: {why}")
            await self._pause(backoff(attempt, RETRY_INITIAL_S, RETRY_MAX_S, self._random))
            attempt += 1
            if self._finished.is_set() or not wanted():
                return False
            why = await self.try_prepare(records)
        return True

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._finished.wait()
        except TimeoutError:
            pass

    async def _fetch_all(self, refs: frozenset[SchemaRef]) -> None:
        """Fetch all, or raise the first error after the others have ended."""
        free = asyncio.Semaphore(CONCURRENCY)

        async def one(ref: SchemaRef) -> None:
            async with free:
                if failed:
                    return
                try:
                    await self._fetch(ref)
                except RegistryUnavailable as error:
                    failed.append(error)

        failed: list[RegistryUnavailable] = []
        await asyncio.gather(*map(one, sorted(refs)))
        if failed:
            raise failed[0]

    async def _fetch(self, ref: SchemaRef) -> None:
        try:
            schema = await self.client.fetch(ref)
        except SchemaError as error:
            self._put_unusable(ref, Unusable(Reason.UNDECODABLE, f"it cannot be used: {error}"))
            return
        if schema is None:
            self._put_unusable(ref, Unusable(Reason.UNKNOWN_SCHEMA, "the schema registry does not have it"))
            return
        found = await self._compile(schema)
        if isinstance(found, Unusable):
            self._put_unusable(ref, found)
        else:
            self.put(ref, found, schema.kind)

    def _put_unusable(self, ref: SchemaRef, why: Unusable) -> None:
        self.put(ref, why)
        self._ask_again.pop(ref, None)  # to the end
        self._ask_again[ref] = asyncio.get_running_loop().time() + self._keep_unknown_s

    def _expire(self) -> None:
        now = asyncio.get_running_loop().time()
        while self._ask_again:  # in the order of their times
            ref, until = next(iter(self._ask_again.items()))
            if until > now:
                break
            del self._ask_again[ref]
            self.forget(ref)


async def _in_thread(schema: Schema) -> Decode | Unusable:
    return await asyncio.to_thread(compile_schema, schema)
