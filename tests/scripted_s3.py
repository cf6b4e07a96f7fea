"""A fake S3 server that sends scripted answers and records the requests."""

import asyncio
import ssl
from collections.abc import Mapping
from typing import NamedTuple, Self

from tests.services import streams


class Request(NamedTuple):
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class ScriptedServer:
    """Records requests and sends the answers in turn, the last one for ever.

    None stays silent until ``speak`` is set, then sends 200. b"" and answers with ``connection: close`` close the
    connection.
    """

    def __init__(self, *answers: bytes | None, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[Request] = []
        self.silent = asyncio.Event()
        self.speak = asyncio.Event()
        self._answers = list(answers)
        self._tls = tls

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"{'https' if self._tls else 'http'}://127.0.0.1:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.speak.set()
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := (await reader.readuntil(b"\r\n\r\n")).decode():
                first, *lines = head.splitlines()
                headers = {
                    name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)
                }
                if "expect" in headers:
                    writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                method, path, _ = first.split(" ")
                self.requests.append(Request(method, path, headers, body))
                said = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
                if said is None:
                    self.silent.set()
                    await self.speak.wait()
                    said = stored()
                writer.write(said)
                await writer.drain()
                if not said or b"connection: close" in said:
                    break
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            pass
        finally:
            await streams.close(writer)


def answer(status: int, body: str = "", headers: Mapping[str, str] | None = None) -> bytes:
    fields = {"content-length": str(len(body)), **(headers or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} Whatever\r\n{head}\r\n{body}".encode()


def stored() -> bytes:
    return answer(200, headers={"etag": '"0123"'})


def broken_off(status: int, body: str) -> bytes:
    return answer(status, body, {"content-length": "1000", "connection": "close"})


def refusal(status: int, code: str, message: str = "") -> bytes:
    return answer(status, f"<Error><Code>{code}</Code><Message>{message}</Message></Error>")
