"""Changes what a bucket notifies of: reads the configuration and puts it back as a whole, the only way S3 has."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from ingestd.config.model import S3Config
from ingestd.sinks.s3 import S3Sink

if TYPE_CHECKING:
    from types_aiobotocore_s3.type_defs import NotificationConfigurationTypeDef


async def change_notification(url: str, settings: S3Config, change: Callable[[dict[str, Any]], dict[str, Any]]) -> bool:
    """Apply `change` to the configuration of the bucket in `url`; False if that changes nothing.

    Errors: those of a sink. A change by somebody else between the read and the write is overwritten.
    """
    sink = S3Sink(url, settings, connections=1)
    bucket = sink.bucket
    try:
        async with sink.call(f"read the notification configuration of s3://{bucket}") as client:
            answer = await client.get_bucket_notification_configuration(Bucket=bucket)
        present = {name: value for name, value in answer.items() if name != "ResponseMetadata"}
        wanted = change(present)
        if wanted == present:
            return False
        configuration = cast("NotificationConfigurationTypeDef", wanted)
        async with sink.call(f"write the notification configuration of s3://{bucket}") as client:
            await client.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=configuration)
    finally:
        await sink.close()
    return True
