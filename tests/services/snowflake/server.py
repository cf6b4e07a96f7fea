"""A stand-in for Snowflake's server, run in its own environment. Argument: a JSON object as `Snowflake` writes it."""

import base64
import gzip
import hashlib
import json
import sys
import threading
import time
from typing import Any

import duckdb
import jwt
import uvicorn
from botocore.session import Session
from cryptography.hazmat.primitives import serialization
from snowflake.connector.errors import ProgrammingError
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from tests.services.snowflake import copy_json
from tests.services.snowflake.pipes import Pipes

IDLE = 0.05  # seconds between two looks for a file
WAIT = 1  # seconds that a queue is asked to wait for a message


def main() -> None:
    """Serve until killed."""
    options = json.loads(sys.argv[1])
    copy_json.install(options["s3_endpoint"], options["access_key"], options["secret_key"])
    # After the change: the server makes its one database when it is imported.
    import fakesnow.server as theirs  # noqa: PLC0415
    from fakesnow.cursor import FakeSnowflakeCursor  # noqa: PLC0415

    pipes = Pipes(theirs.shared_fs)
    _teach(FakeSnowflakeCursor, pipes)
    keys = _Keys(options["users"])
    theirs.app.add_middleware(_Login, keys=keys)
    insert_files = Route("/v1/data/pipes/{pipe}/insertFiles", _Rest(pipes, keys).insert_files, methods=["POST"])
    theirs.app.router.routes.append(insert_files)
    threading.Thread(target=_load, args=(pipes,), daemon=True).start()
    if options["queue_url"]:
        arguments = (pipes, options["queue_endpoint"], options["queue_url"])
        threading.Thread(target=_listen, args=arguments, daemon=True).start()
    uvicorn.run(theirs.app, host=options["host"], port=options["port"], log_level="warning")


def _teach(cursor_class: Any, pipes: Pipes) -> None:
    """Have statements about pipes answered by the simulation, and the database's errors become Snowflake's."""
    execute = cursor_class.execute

    def with_pipes(self: Any, command: str, *arguments: Any, **options: Any) -> Any:
        place = (self._conn.database, self._conn.schema)
        try:
            answered = pipes.answer(command, place)
            done = execute(self, answered or command, *arguments, **options)
            if answered is None and command.lstrip()[:9].upper() == "COPY INTO" and "server" in options:
                pipes.copied(self, command, place)
        except LookupError as error:
            raise ProgrammingError(msg=f"SQL compilation error:\n{error}", errno=2003, sqlstate="02000") from None
        except duckdb.Error as error:
            # The connector repeats a bare HTTP 500 again and again.
            raise ProgrammingError(msg=str(error), errno=100072, sqlstate="22000") from None
        return done

    cursor_class.execute = with_pipes


class _Login(BaseHTTPMiddleware):  # type: ignore[misc]  # not installed here
    """fakesnow takes anybody, and its answer lacks what the connector demands from version 5 on."""

    def __init__(self, app: ASGIApp, keys: "_Keys") -> None:
        super().__init__(app)
        self._keys = keys

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        if "login-request" not in request.url.path:
            return await call_next(request)
        body = await request.body()
        if request.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        if why := self._keys.refuses(json.loads(body)["data"].get("TOKEN") or ""):
            return JSONResponse({"data": {}, "code": "390144", "message": why, "success": False})
        response = await call_next(request)
        answer = json.loads(b"".join([part async for part in response.body_iterator]))
        more = {"masterToken": "m", "masterValidityInSeconds": 14400, "validityInSeconds": 3600, "sessionId": 1}
        return JSONResponse({**answer, "data": answer["data"] | more, "code": None, "message": None})


class _Keys:
    """Whether a key-pair token is one of a user's."""

    def __init__(self, users: dict[str, str]) -> None:
        """Public keys in PEM by ACCOUNT.USER."""
        self._users = users

    def refuses(self, token: str) -> str:
        """Why the token is no good; empty where it is."""
        try:
            subject = jwt.decode(token, options={"verify_signature": False})["sub"]
            key = self._users[subject]
            claims = jwt.decode(token, key, algorithms=["RS256"], options={"require": ["iss", "iat", "exp"]})
        except (jwt.InvalidTokenError, KeyError):
            return "JWT token is invalid."
        issuer = f"{subject}.{_fingerprint(key)}"
        return "" if claims["iss"] == issuer and claims["exp"] - claims["iat"] <= 3600 else "JWT token is invalid."


class _Rest:
    """Snowpipe's REST endpoint: names of files, from whoever proves to have a user's private key."""

    def __init__(self, pipes: Pipes, keys: _Keys) -> None:
        self._pipes = pipes
        self._keys = keys

    async def insert_files(self, request: Request) -> JSONResponse:
        if why := self._refused(request):
            return _refusal(401, "390144", why)
        files = json.loads(await request.body())["files"]
        if len(files) > 5000:
            return _refusal(400, "391902", "too many files")
        if not self._pipes.insert_files(request.path_params["pipe"], [file["path"] for file in files]):
            return _refusal(404, "390404", "Specified object does not exist or not authorized.")
        return JSONResponse({"requestId": request.query_params.get("requestId"), "responseCode": "SUCCESS"})

    def _refused(self, request: Request) -> str:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.upper() != "BEARER" or request.headers.get("X-Snowflake-Authorization-Token-Type") != "KEYPAIR_JWT":
            return "no key-pair token"
        return self._keys.refuses(token)


def _fingerprint(public_key: str) -> str:
    der = serialization.load_pem_public_key(public_key.encode()).public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return "SHA256:" + base64.b64encode(hashlib.sha256(der).digest()).decode()


def _refusal(status: int, code: str, message: str) -> JSONResponse:
    return JSONResponse({"data": None, "code": code, "message": message, "success": False}, status_code=status)


def _load(pipes: Pipes) -> None:
    while True:
        if not pipes.load():
            time.sleep(IDLE)


def _listen(pipes: Pipes, endpoint: str, queue_url: str) -> None:
    """Hand the messages of a bucket's queue to the pipes."""
    session = Session()
    session.set_credentials("standin", "standin")
    client: Any = session.create_client("sqs", region_name="us-east-1", endpoint_url=endpoint)
    while True:
        try:
            answer = client.receive_message(QueueUrl=queue_url, WaitTimeSeconds=WAIT, MaxNumberOfMessages=10)
            for message in answer.get("Messages", []):
                pipes.notified(message["Body"])
                client.delete_message(QueueUrl=queue_url, ReceiptHandle=message["ReceiptHandle"])
        except Exception as error:  # noqa: BLE001 - a queue that is away for a while comes back
            print(f"queue: {error}", file=sys.stderr)  # noqa: T201
            time.sleep(IDLE)


if __name__ == "__main__":
    main()
