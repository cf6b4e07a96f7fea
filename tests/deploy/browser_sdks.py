"""Has the pages of a website load an SDK: Segment's, RudderStack's, or our own script."""

from tests.deploy.website import Website
from tests.services.clients import node_modules

PACKAGES = {"segment": "@segment/analytics-next", "rudder": "@rudderstack/analytics-js"}
_FILES = {"segment": "dist/umd/index.js", "rudder": "dist/npm/modern/bundled/umd/index.js"}
#: The collector of the tests has no certificate.
_INTEGRATIONS = '{"Segment.io": {protocol: "http"}}'
#: How their documents say it. They ask the collector for their settings.
_LOAD = {
    "segment": "sdk = AnalyticsNext.AnalyticsBrowser.load("
    f'{{writeKey: "segment", cdnURL: "ADDRESS"}}, {{integrations: {_INTEGRATIONS}}})',
    "rudder": 'sdk = new rudderanalytics.RudderAnalytics(); sdk.load("rudder", "ADDRESS", {configUrl: "ADDRESS"})',
}


def use_sdk(website: Website, sdk: str, load: str = "") -> None:
    """Have pages load the SDK, or `load` do that, and send a page view."""
    url = website.recorder.url
    if sdk == "ingestd":
        website.site.head = f'<script src="{url}/ingestd.js" data-key="web"></script><script>sdk = ingestd</script>'
        return
    website.site.files["/sdk.js"] = node_modules() / PACKAGES[sdk] / _FILES[sdk]
    script = (load or _LOAD[sdk]).replace("ADDRESS", url)
    website.site.head = f'<script src="/sdk.js"></script><script>{script}; sdk.page()</script>'
