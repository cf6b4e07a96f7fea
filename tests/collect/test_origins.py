"""Which web pages may send: the allow-list, preflights, and what pages may read."""

import pytest

from ingestd.collect.origins import Origins
from tests.collect.edge_world import EVENT, World, world

LISTED = ("https://www.example.com", "https://*.shop.example", "http://localhost:3000", "https://b.example:8443")


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("https://www.example.com", True),
        ("HTTPS://WWW.Example.com:443", True),
        ("https://www.example.com:444", False),
        ("http://www.example.com", False),
        ("https://example.com", False),
        ("https://www.example.com.evil.net", False),
        ("https://evil-www.example.com", False),
        ("https://a.shop.example", True),
        ("https://a.b.shop.example", True),
        ("https://shop.example", False),
        ("https://.shop.example", False),
        ("https://evilshop.example", False),
        ("https://a.shop.example.evil.net", False),
        ("https://evil.net/.shop.example", False),
        ("https://evil.net#.shop.example", False),
        ("http://a.shop.example", False),
        ("https://a.shop.example:8443", False),
        ("http://localhost:3000", True),
        ("http://localhost", False),
        ("https://b.example:8443", True),
        ("null", False),
        ("", False),
        ("*", False),
        ("https://[", False),
        ("https://a:99999999", False),
    ],
)
def test_the_allow_list(origin: str, allowed: bool) -> None:
    assert Origins(LISTED).allow(origin) is allowed


def test_no_list_allows_nothing_and_a_star_everything() -> None:
    assert not Origins(()).allow("https://www.example.com")
    assert Origins(("*",)).allow("null")


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "application/x-www-form-urlencoded"])
async def test_a_page_that_is_not_listed_is_refused_by_the_server_itself(content_type: str) -> None:
    async with world() as it:
        headers = {"Origin": "https://evil.example", "Content-Type": content_type}
        status, body, answered = await it.post("/v1/events?key=web", EVENT, headers=headers)
        assert (status, body["code"]) == (403, "origin")
        assert "Access-Control-Allow-Origin" not in answered
        assert not it.delivery.batches


async def test_a_page_that_is_listed_may_read_the_answer_also_of_a_refusal() -> None:
    async with world() as it:
        for key, status in (("web", 200), ("none", 401)):
            found, _, headers = await it.post(
                f"/v1/events?key={key}", EVENT, headers={"Origin": "https://www.example.com"}
            )
            assert found == status
            assert headers["Access-Control-Allow-Origin"] == "https://www.example.com"
            assert headers["Access-Control-Allow-Credentials"] == "true"
            assert "Ingestd-Ack" in headers["Access-Control-Expose-Headers"]
            assert headers["Vary"] == "Origin"


async def test_a_request_without_origin_is_allowed_and_the_collectors_own_is() -> None:
    async with world(public_url="https://e.example.com/in", origins=()) as it:
        assert (await it.post("/v1/events?key=web", EVENT))[0] == 200
        own = {"Origin": "https://e.example.com"}
        assert (await it.post("/v1/events?key=web", EVENT, headers=own))[0] == 200
        foreign = {"Origin": f"http://127.0.0.1:{it.port}"}  # Host says so, but DNS rebinding can do that
        assert (await it.post("/v1/events?key=web", EVENT, headers=foreign))[0] == 403


async def test_a_star_gives_no_credentials() -> None:
    async with world(origins=("*",)) as it:
        headers = {"Origin": "https://any.example"}
        status, _, answered = await it.post("/v1/events?key=web", EVENT, headers=headers)
        assert (status, answered["Access-Control-Allow-Origin"]) == (200, "*")
        assert "Access-Control-Allow-Credentials" not in answered


async def preflight(it: World, path: str, origin: str, names: str = "content-type") -> tuple[int, dict[str, str]]:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": names,
        "Access-Control-Request-Private-Network": "true",
    }
    status, _, answered = await it.request("OPTIONS", path, headers=headers)
    return status, {name: answered[name] for name in answered if name.startswith(("Access", "Vary"))}


async def test_preflights_are_answered_for_listed_pages_only() -> None:
    async with world() as it:
        status, headers = await preflight(it, "/v1/events", "https://www.example.com", "authorization, content-type")
        assert status == 204
        assert headers["Access-Control-Allow-Origin"] == "https://www.example.com"
        assert headers["Access-Control-Allow-Headers"] == "authorization, content-type"
        assert "POST" in headers["Access-Control-Allow-Methods"]
        assert int(headers["Access-Control-Max-Age"]) > 0
        assert "Access-Control-Request-Headers" in headers["Vary"]
        assert "Access-Control-Allow-Private-Network" not in headers
        for path, origin in (("/v1/events", "https://evil.example"), ("/hooks/crm", "https://www.example.com")):
            status, headers = await preflight(it, path, origin)
            assert status == 403
            assert not headers
        status, headers = await preflight(it, "/v1/events", "https://www.example.com", "a b")
        assert "Access-Control-Allow-Headers" not in headers
