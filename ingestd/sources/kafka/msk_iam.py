"""Tokens for Amazon MSK with IAM: a signed request to ``kafka-cluster:Connect``, which is sent as an OAUTHBEARER token.

The format is that of aws-msk-iam-sasl-signer-python, which finds its credentials only once and blocks while it does.
"""

import base64
import re
import time
from collections.abc import Iterable

from aiokafka.abc import AbstractTokenProvider
from aiokafka.errors import KafkaConnectionError
from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials, ReadOnlyCredentials
from botocore.exceptions import BotoCoreError, ClientError

from ingestd import __version__
from ingestd.config.secrets import REDACTION
from ingestd.core.errors import ConfigError
from ingestd.ops.aws_errors import said_by
from ingestd.ops.aws_session import AwsSession, new_session

LIFETIME_S = 900  # the longest that MSK accepts
SHARED_S = 60.0
USER_AGENT = f"ingestd/{__version__}"  # in CloudTrail's log of the connection

_SERVICE = "kafka-cluster"
_HINT = "give this process valid AWS credentials; new ones in a file or from a role are picked up without a restart"
#: ``b-1.name.abc123.c2.kafka.eu-central-1.amazonaws.com``, also of MSK Serverless, and of China's regions.
_BROKER = re.compile(r"\.kafka(?:-serverless)?\.([a-z]{2}(?:-[a-z]+)+-\d)\.amazonaws\.com(?:\.cn)?(?::\d+)?\Z")


def region_of(brokers: Iterable[str], configured: str | None) -> str:
    """The cluster's region: the configured one, that of its brokers' names, or AWS' own. ConfigError where none is."""
    named = (match[1] for broker in brokers if (match := _BROKER.search(broker.lower())))
    try:
        region: str | None = configured or next(named, None) or new_session().get_config_variable("region")
    except BotoCoreError as error:  # a profile that is missing, a file that is malformed
        hint = "correct AWS_PROFILE or AWS' configuration file, or set kafka.iam_region"
        raise ConfigError(f"AWS' settings cannot be used: {said_by(error)}", hint=hint) from None
    if region is None:
        raise ConfigError("kafka.iam_region is not set, and no broker's name has a region", hint="set kafka.iam_region")
    return region


def sign_token(credentials: ReadOnlyCredentials, region: str, user_agent: str = USER_AGENT) -> str:
    """A token that is valid from now on, for `LIFETIME_S`."""
    signer = SigV4QueryAuth(
        Credentials(str(credentials.access_key), str(credentials.secret_key), credentials.token),
        _SERVICE,
        region,
        expires=LIFETIME_S,
    )
    url = f"https://kafka.{region}.amazonaws.com/"
    request = AWSRequest(method="GET", url=url, params={"Action": f"{_SERVICE}:Connect"})
    signer.add_auth(request)
    request.params = {"User-Agent": user_agent}  # not signed
    return base64.urlsafe_b64encode(request.prepare().url.encode()).decode().rstrip("=")


class MskTokenProvider(AbstractTokenProvider):  # type: ignore[misc]  # aiokafka has no types
    """Signs tokens. The credentials are those of AWS' chain, which are renewed before they end.

    Connections within a minute share a token: each one is hidden from logs, and the list of what is hidden has an end.
    """

    def __init__(self, region: str) -> None:
        self._region = region
        self._session: AwsSession | None = None
        self._signed: tuple[ReadOnlyCredentials, float, str] | None = None  # with what, when, the token

    async def token(self) -> str:
        """Raises an error that aiokafka retries where there are no credentials: they may come."""
        try:
            if self._session is None:
                self._session = new_session()
            found = await self._session.frozen_credentials()
        except (BotoCoreError, ClientError, OSError, TimeoutError) as error:
            self._session = None  # it keeps what it found
            # Not chained: its text may be what a credential process printed.
            raise KafkaConnectionError(f"no AWS credentials for Kafka: {said_by(error)}; {_HINT}") from None
        if found is None:
            self._session = None
            raise KafkaConnectionError(f"there are no AWS credentials for Kafka; {_HINT}")
        now = time.monotonic()
        if self._signed is None or self._signed[0] != found or now - self._signed[1] > SHARED_S:
            self._signed = found, now, sign_token(found, self._region)
            REDACTION.hide(self._signed[2])
        return self._signed[2]
