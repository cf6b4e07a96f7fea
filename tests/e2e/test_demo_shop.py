"""The demo's shop: what a visitor's browser sends is a row beside the simulated ones, and part of the proof."""

import gzip
import http.client
import json
from collections import Counter
from pathlib import Path

import pytest

from ingestd.demo.shop import TOPIC
from ingestd.demo.shop.qr_code import qr_code, shop_url
from tests.e2e.daemon import Daemon
from tests.services.ports import HOST

SETTINGS = {
    "source": "simulator", "simulator.rate": "600", "batch.interval": "500ms", "warehouse.poll": "200ms",
    "health.host": HOST,
}  # fmt: skip


class Shop(Daemon):
    """`ingestd --demo`."""

    def __init__(self, directory: Path) -> None:
        data = directory / "data"
        keys = {**SETTINGS, "sink.url": str(data), "warehouse.path": str(data / "warehouse.duckdb")}
        super().__init__("demo", directory, keys, {}, ("-m", "ingestd", "--demo"))

    def ask(self, method: str, path: str, body: str = "", **headers: str) -> tuple[int, bytes]:
        """The status and the body of an answer."""
        connection = http.client.HTTPConnection(HOST, self._port, timeout=10)
        try:
            connection.request(method, path, body or None, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def send(self, *names: str, origin: str | None = None) -> int:
        """Send a page view each, as the script does; the status."""
        events = [
            {"event_id": name, "client_id": "visitor", "event_type": "web_visit",
             "event_timestamp": "2026-11-29T07:00:00Z", "page_url": f"http://{HOST}/shop"}
            for name in names
        ]  # fmt: skip
        own = f"http://{HOST}:{self._port}" if origin is None else origin
        return self.ask("POST", f"/v1/events?key={TOPIC}", json.dumps(events), Origin=own)[0]


def rows_of_visitors(data: Path) -> Counter[str]:
    files = data.glob(f"events/*/*/*/{TOPIC}+*.jsonl.gz")
    rows = (json.loads(line) for file in files for line in gzip.decompress(file.read_bytes()).splitlines())
    return Counter(row["event_id"] for row in rows if row["source_topic"] == TOPIC)


async def test_what_visitors_send_is_in_rows_and_in_the_proof_also_after_a_kill(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    try:
        await shop.start_ready()
        for path, kind in (("/shop", b"<!doctype html>"), ("/shop/shop.js", b"//"), ("/ingestd.js", b"//")):
            status, body = shop.ask("GET", path)
            assert (status, body[: len(kind)]) == (200, kind), path
        assert shop.send("a", "b") == 200
        shop.kill()  # what was answered 200 is in the journal
        await shop.start_ready()
        assert shop.send("c") == 200
        assert await shop.stop() == 0
    finally:
        shop.kill()
    assert rows_of_visitors(tmp_path / "data") == {"a": 1, "b": 1, "c": 1}
    assert "verified" in shop.log_text()


async def test_only_the_shop_s_own_pages_may_send(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    try:
        await shop.start_ready()
        assert shop.send("a", origin="https://elsewhere.example") == 403
        assert shop.send("a", origin="") == 403
        assert shop.ask("GET", "/shop", Host="rebound.example")[0] == 403
        await shop.until(lambda status: status.totals.landed)
        assert await shop.stop() == 0
    finally:
        shop.kill()
    assert rows_of_visitors(tmp_path / "data") == {}


@pytest.mark.parametrize(
    ("host", "url"),
    [("127.0.0.1", None), ("::1", None), ("localhost", None), ("192.0.2.7", "http://192.0.2.7:9464/shop")],
)
def test_phones_are_asked_in_where_they_can_come(host: str, url: str | None) -> None:
    assert shop_url(host, 9464) == url


def test_the_qr_code_is_made_here_as_a_picture_without_links() -> None:
    picture = qr_code("http://192.0.2.7:9464/shop")
    assert picture.startswith(b"<?xml")
    assert b"href" not in picture
