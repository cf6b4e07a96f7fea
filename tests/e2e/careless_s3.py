"""An S3 server that takes any signature and ignores If-None-Match: it overwrites, as old S3-compatible stores do."""

from collections.abc import Mapping
from typing import NamedTuple, Self
from xml.sax.saxutils import escape

from aiohttp import web

from tests.services.ports import HOST

BUCKET = "bucket"
_META = "x-amz-meta-"


class Kept(NamedTuple):
    body: bytes
    metadata: Mapping[str, str]


class CarelessS3:
    """Keeps its objects in memory, by key."""

    def __init__(self) -> None:
        self.objects: dict[str, Kept] = {}
        # An application, not a bare server: it answers to "Expect: 100-continue".
        self._application = web.Application(client_max_size=64 << 20)
        self._application.router.add_route("*", "/{path:.*}", self._answer)

    @property
    def settings(self) -> dict[str, str]:
        """Keys for a daemon that uses it."""
        return {"sink.url": f"s3://{BUCKET}", "s3.endpoint_url": self._url, "s3.addressing": "path"}

    @property
    def environment(self) -> dict[str, str]:
        return {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "thing", "AWS_REGION": "us-east-1"}

    async def __aenter__(self) -> Self:
        self._runner = web.AppRunner(self._application)
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, 0).start()
        port = self._runner.addresses[0][1]
        self._url = f"http://{HOST}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        bucket, _, key = request.path.removeprefix("/").partition("/")
        assert bucket == BUCKET
        if request.method == "PUT":
            metadata = {
                name.lower().removeprefix(_META): value
                for name, value in request.headers.items()
                if name.lower().startswith(_META)
            }
            self.objects[key] = Kept(await request.read(), metadata)
            return web.Response(headers={"ETag": '"0"'})
        if not key:
            return web.Response(text=self._listing(request.query), content_type="application/xml")
        if (found := self.objects.get(key)) is None:
            return web.Response(status=404)
        headers = {_META + name: value for name, value in found.metadata.items()}
        return web.Response(body=found.body, headers={**headers, "ETag": '"0"'})

    def _listing(self, query: Mapping[str, str]) -> str:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        keys, folders = [], set()
        for key in sorted(self.objects):
            if key.startswith(prefix):
                head, found, _ = key.removeprefix(prefix).partition(delimiter) if delimiter else (key, "", "")
                if found:
                    folders.add(prefix + head + delimiter)
                else:
                    keys.append(key)
        contents = "".join(f"<Contents><Key>{escape(key)}</Key></Contents>" for key in keys)
        below = "".join(f"<CommonPrefixes><Prefix>{escape(it)}</Prefix></CommonPrefixes>" for it in sorted(folders))
        return f"<ListBucketResult><IsTruncated>false</IsTruncated>{contents}{below}</ListBucketResult>"
