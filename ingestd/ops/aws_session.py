"""Makes the sessions of AWS' clients: their region, and credentials that are read without surprises.

botocore reads AWS_DEFAULT_REGION only; the other SDKs read AWS_REGION. Its sources of credentials (files, processes,
services, variables) raise whatever a malformed text leads to: here that is one of botocore's own errors.
Redirects are not followed, as in botocore: they would carry a body or a token to another host.
"""

import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.credentials import AioCredentials
from aiobotocore.httpsession import AIOHTTPSession
from aiobotocore.session import AioSession
from botocore.credentials import ReadOnlyCredentials
from botocore.exceptions import BotoCoreError, ClientError, CredentialRetrievalError

from ingestd.core.aws_region import region_variable

_SIGNED_SERVICES = ("s3", "sqs", "kinesis")  # not those that the sources of credentials call themselves

_CHAIN = "the AWS credential chain"


def new_session() -> "AwsSession":
    """A session whose clients, also the one that asks for credentials, take the region from either variable."""
    session = AwsSession()
    session.set_default_client_config(AioConfig(http_session_cls=DirectHTTPSession))
    if name := region_variable(os.environ):
        session.set_config_variable("region", os.environ[name])
    for service in _SIGNED_SERVICES:
        session.get_component("event_emitter").register_first(f"request-created.{service}", session.refresh)
    session.get_component("event_emitter").register("before-call.s3.HeadBucket", _ask_once_for_the_region)
    return session


def _ask_once_for_the_region(params: dict[str, Any], **_: Any) -> None:
    """Botocore answers a redirect with a HEAD of the bucket; a redirect of that led to another HEAD, without end."""
    params["context"].setdefault("s3_redirect", {})["redirected"] = True


class _DirectRequests:
    """The requests of an aiohttp session, which follow no redirect."""

    def __init__(self, session: Any) -> None:
        self._session = session

    async def request(self, method: str, **options: Any) -> Any:
        return await self._session.request(method, allow_redirects=False, **options)


class DirectHTTPSession(AIOHTTPSession):
    """aiobotocore's, which has no option for redirects."""

    async def _get_session(self, proxy_url: str | None) -> _DirectRequests:
        session = await super()._get_session(proxy_url)  # type: ignore[misc]  # the stubs have none
        return _DirectRequests(session)


class AwsSession(AioSession):
    """Raises CredentialRetrievalError for whatever a source of credentials raises or gives that is not usable."""

    async def get_credentials(self) -> AioCredentials | None:  # type: ignore[override]  # the stubs are botocore's
        with _readable():
            found: AioCredentials | None = await super().get_credentials()
            return found

    async def refresh(self, **_: Any) -> None:
        """Look at the credentials before a request is signed with them, which is when botocore renews them."""
        await self.frozen_credentials()

    async def frozen_credentials(self) -> ReadOnlyCredentials | None:
        """The credentials to sign a request with now, renewed before they end; None where there are none."""
        if (credentials := await self.get_credentials()) is None:
            return None
        with _readable():
            frozen: ReadOnlyCredentials = await credentials.get_frozen_credentials()
            for part, text in frozen._asdict().items():
                _check_text(part, text)
            return frozen


def _check_text(part: str, text: object) -> None:
    """Raise for what cannot be a header of a request, without showing it: it may be a secret."""
    if not text and part in {"token", "account_id"}:
        return
    if not isinstance(text, str) or not text or not text.isprintable() or not text.isascii():
        raise CredentialRetrievalError(provider=f"{_CHAIN} (the {part} is not plain text)", error_msg="malformed")


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    # A deadline, a file that cannot be read and a service that cannot be reached say themselves what is wrong.
    except (BotoCoreError, ClientError, OSError):
        raise
    except Exception as error:  # noqa: BLE001 - it is raised again as another
        # The error's text may quote what a credential process printed.
        where = f"{_CHAIN} ({type(error).__name__} in {_place(error)})"
        raise CredentialRetrievalError(provider=where, error_msg="malformed") from None


def _place(error: Exception) -> str:
    """The function of botocore that names the source of credentials, or else the last in the traceback."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    names = [
        frame.f_code.co_qualname
        for frame in frames
        if frame.f_globals.get("__name__", "").partition(".")[0] in {"aiobotocore", "botocore"}
    ]
    return next((name for name in reversed(names) if "Provider" in name), names[-1])
