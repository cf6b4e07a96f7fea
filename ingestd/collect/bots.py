"""Bots, by their user agent. Pure.

A short list of words that nearly all bots have in common, after the general patterns of npm's `isbot` and PyPI's
`crawler-user-agents`: lists of single bots are out of date after weeks. HTTP clients that mobile and server SDKs are
built on, such as okhttp and CFNetwork, are not in it. Those that scripts are built on are bots among a page's visitors,
and are not where servers send events.
"""

import re
from functools import lru_cache

MAX_LOOKED_AT = 512  # characters
_REMEMBERED = 4096  # user agents: few are met most of the time

# "bot" as the end of a word, because "Cubot" is a telephone; a word of its own in front of "/" is a program's name.
_BOT = re.compile(
    r"(?<!cu)bot(?![a-z])|bots?[/;)]|\bbot|crawl|spider|slurp|archiver|scrap(?:er|y)|facebookexternalhit|"
    r"facebookcatalog|meta-external|whatsapp/|embedly|quora link preview|outbrain|vkshare|validator|"
    r"headless(?:chrome|shell)|phantomjs|puppeteer|playwright|selenium|cypress/|lighthouse|"
    r"pagespeed|gtmetrix|pingdom|uptime|statuscake|site24x7|newrelicpinger|datadog|synthetic|monitor(?:ing)?[/ ;)]|"
    r"google-(?:read-aloud|safety|inspectiontool|extended)|googleother|mediapartners|adsbot|feedfetcher|"
    r"apis-google|duplexweb|bingpreview|yahoo pipes|httrack|nikto|sqlmap|nmap|masscan|zgrab|nuclei|censys|"
    r"chatgpt-user|perplexity",
    re.IGNORECASE,
)

_PROGRAM = re.compile(
    r"python-(?:requests|urllib|httpx)|aiohttp/|^python/|^curl/|^wget/|libwww-perl|^go-http-client|^java/|"
    r"apache-httpclient|^ruby|^php/|guzzlehttp|node-fetch|^axios/|postmanruntime|insomnia/|^mozilla/\d\.\d$|^-?$",
    re.IGNORECASE,
)


def is_bot(user_agent: str, *, of_visitor: bool = True) -> bool:
    """Whether a program without a reader sent this user agent; of a page's visitor none at all is one, too."""
    user_agent = user_agent[:MAX_LOOKED_AT]
    return _is_bot(user_agent) or (of_visitor and _PROGRAM.search(user_agent.strip()) is not None)


@lru_cache(_REMEMBERED)
def _is_bot(user_agent: str) -> bool:
    return _BOT.search(user_agent) is not None
