"""The APIs of SDKs that exist: Segment, RudderStack, Snowplow."""

from ingestd.collect.sdk import rudder, segment, snowplow
from ingestd.collect.sdk.rudder import RudderEndpoint
from ingestd.collect.sdk.segment import SegmentEndpoint
from ingestd.collect.sdk.snowplow import SnowplowEndpoint

ROUTES = (*segment.ROUTES, *rudder.ROUTES, *snowplow.ROUTES)

__all__ = ["ROUTES", "RudderEndpoint", "SegmentEndpoint", "SnowplowEndpoint"]
