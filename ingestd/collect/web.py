"""The endpoint of web pages: our script posts events, and pages without it show a picture. Pure."""

from ingestd.collect import native, pixel
from ingestd.collect.messages import Incoming, Mapped
from ingestd.collect.native import NativeEndpoint
from ingestd.collect.pixel import PixelEndpoint
from ingestd.core.validation import Validator

ROUTES = (*native.ROUTES, *pixel.ROUTES)


class WebEndpoint:
    """Takes both, which only their methods tell apart."""

    def __init__(self, validator: Validator) -> None:
        self._native = NativeEndpoint(validator, of_visitors=True)
        self._pixel = PixelEndpoint()

    async def collect(self, request: Incoming) -> Mapped:
        """The events of a request."""
        return await (self._pixel if request.method == "GET" else self._native).collect(request)
