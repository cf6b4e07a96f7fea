"""Makes the sessions of AWS' clients: botocore reads AWS_DEFAULT_REGION only, the other SDKs read AWS_REGION."""

import os

from aiobotocore.session import AioSession

from ingestd.core.aws_region import region_variable


def new_session() -> AioSession:
    """A session whose clients, also the one that asks for credentials, take the region from either variable."""
    session = AioSession()
    if name := region_variable(os.environ):
        session.set_config_variable("region", os.environ[name])
    return session
