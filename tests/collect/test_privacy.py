"""Privacy: what GPC and DNT do, whose address an IP is, how much of it is kept, and who is a bot."""

from typing import Any

import pytest

from ingestd.collect.bots import is_bot
from ingestd.collect.privacy import client_of, networks, sender, wish_of
from ingestd.config.model import CollectConfig

PROXIES = networks(("10.0.0.0/8", "fd00::/8", "192.0.2.1"))


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "expected"),
    [
        ("203.0.113.7", "", "203.0.113.7"),
        ("203.0.113.7", "198.51.100.1", "203.0.113.7"),  # not a proxy of ours: it may write what it likes
        ("10.1.2.3", "198.51.100.1", "198.51.100.1"),
        ("10.1.2.3", "6.6.6.6, 198.51.100.1", "198.51.100.1"),  # what the client itself wrote is left of it
        ("10.1.2.3", "6.6.6.6, 198.51.100.1, 10.9.9.9", "198.51.100.1"),
        ("10.1.2.3", "6.6.6.6,198.51.100.1,192.0.2.1,10.9.9.9", "198.51.100.1"),
        ("10.1.2.3", "10.4.4.4, 10.5.5.5", "10.4.4.4"),
        ("10.1.2.3", "198.51.100.1:4711", "198.51.100.1"),
        ("10.1.2.3", "[2001:db8::1]:4711", "2001:db8::1"),
        ("10.1.2.3", '"2001:db8::1"', "2001:db8::1"),
        ("fd00::1", "2001:db8::1", "2001:db8::1"),
        ("::ffff:10.1.2.3", "::ffff:198.51.100.1", "198.51.100.1"),
        ("fe80::1%eth0", "", "fe80::1"),
        ("10.1.2.3", "unknown", None),
        ("10.1.2.3", "198.51.100.1, unknown", None),
        ("10.1.2.3", ",", None),
        ("", "198.51.100.1", None),
        ("10.1.2.3", "6.6.6.6, " * 5000 + "198.51.100.1", "198.51.100.1"),
    ],
)
def test_whose_address_it_is(peer: str, forwarded_for: str, expected: str | None) -> None:
    found = sender(peer, forwarded_for, PROXIES)
    assert (None if found is None else str(found)) == expected


def test_without_trusted_proxies_no_header_is_believed() -> None:
    assert str(sender("10.1.2.3", "198.51.100.1", ())) == "10.1.2.3"


@pytest.mark.parametrize(
    ("rule", "peer", "expected"),
    [
        ("truncate", "203.0.113.77", "203.0.113.0"),
        ("truncate", "2001:db8:1234:5678::9", "2001:db8:1234::"),
        ("truncate", "::ffff:203.0.113.77", "203.0.113.0"),
        ("keep", "203.0.113.77", "203.0.113.77"),
        ("drop", "203.0.113.77", None),
    ],
)
def test_how_much_of_an_address_is_kept(rule: Any, peer: str, expected: str | None) -> None:
    rules = CollectConfig(ip=rule)
    assert client_of({}, peer, (), rules, anonymous=False, is_visitor=True).ip == expected
    assert client_of({}, peer, (), rules, anonymous=True, is_visitor=True).ip is None


@pytest.mark.parametrize(
    ("headers", "gpc", "dnt", "expected"),
    [
        ({}, "drop", "drop", "ignore"),
        ({"sec-gpc": "1"}, "drop", "ignore", "drop"),
        ({"sec-gpc": "1"}, "anonymise", "drop", "anonymise"),
        ({"sec-gpc": "1", "dnt": "1"}, "anonymise", "drop", "drop"),
        ({"sec-gpc": "1", "dnt": "1"}, "ignore", "anonymise", "anonymise"),
        ({"sec-gpc": "0", "dnt": "0"}, "drop", "drop", "ignore"),
        ({"sec-gpc": "true", "dnt": "unspecified"}, "drop", "drop", "ignore"),
    ],
)
def test_the_stricter_of_what_a_client_asks_for(headers: dict[str, str], gpc: Any, dnt: Any, expected: str) -> None:
    assert wish_of(headers, CollectConfig(gpc=gpc, dnt=dnt)) == expected


BROWSER = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36"
)


@pytest.mark.parametrize(
    "user_agent",
    [
        "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
        "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
        "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; +https://openai.com/gptbot)",
        "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
        "Mozilla/5.0 (compatible; Baiduspider/2.0; +http://www.baidu.com/search/spider.html)",
        BROWSER.replace("Chrome/", "HeadlessChrome/"),
        "Pingdom.com_bot_version_1.4_(http://www.pingdom.com/)",
        "curl/8.5.0",
        "python-requests/2.32.3",
        "Mozilla/5.0 (compatible; AhrefsBot/7.0; +http://ahrefs.com/robot/)",
        "",
    ],
)
def test_bots(user_agent: str) -> None:
    assert is_bot(user_agent)
    is_program = user_agent in {"", "curl/8.5.0", "python-requests/2.32.3"}
    assert is_bot(user_agent, of_visitor=False) is not is_program


@pytest.mark.parametrize(
    "user_agent",
    [
        BROWSER,
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 "
        "Mobile/15E148 Safari/604.1",
        "Mozilla/5.0 (Linux; Android 9; CUBOT_X18_Plus) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/99.0",
        "Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0",
        "okhttp/4.12.0",
        "analytics-python/2.3.3",
        "MyApp/3.1 CFNetwork/1568.200.51 Darwin/24.1.0",
        BROWSER + " " + "x" * 600 + " bot",  # no more than the beginning is looked at
    ],
)
def test_no_bots(user_agent: str) -> None:
    assert not is_bot(user_agent)


@pytest.mark.parametrize("rule", ["flag", "ignore"])
def test_bots_are_flagged_or_ignored(rule: Any) -> None:
    rules = CollectConfig(bots=rule)
    client = client_of({"user-agent": "curl/8"}, "", (), rules, anonymous=False, is_visitor=True)
    assert client.is_bot is (rule == "flag")
