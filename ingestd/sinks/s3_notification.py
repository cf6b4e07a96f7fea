"""What a bucket notifies of: read, changed and put back as a whole, which is the only way S3 has."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from ingestd.config.model import S3Config
from ingestd.sinks.s3 import S3Sink

if TYPE_CHECKING:
    from types_aiobotocore_s3.type_defs import NotificationConfigurationTypeDef


async def change_notification(url: str, settings: S3Config, change: Callable[[dict[str, Any]], dict[str, Any]]) -> bool:
    """Put what `change` makes of the present configuration of the bucket in `url`; False where it is that already.

    Errors: those of a sink. Whoever changes it between the reading and the putting is overwritten.
    """
    sink = S3Sink(url, settings, connections=1)
    bucket = sink.bucket
    try:
        async with sink.call(f"read what s3://{bucket} notifies of") as client:
            answer = await client.get_bucket_notification_configuration(Bucket=bucket)
        present = {name: value for name, value in answer.items() if name != "ResponseMetadata"}
        wanted = change(present)
        if wanted == present:
            return False
        configuration = cast("NotificationConfigurationTypeDef", wanted)
        async with sink.call(f"put what s3://{bucket} notifies of") as client:
            await client.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=configuration)
    finally:
        await sink.close()
    return True
