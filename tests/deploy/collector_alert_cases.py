"""The cases of the collector's alerts, as in alert_cases.py."""

from tests.deploy.alert_cases import JOB, A, Case, of


def requests(status: int, source: str = "web") -> str:
    return of("ingestd_collect_requests_total", source=source, status=str(status), reason="")


def events(outcome: str) -> str:
    return of("ingestd_collect_events_total", source="web", outcome=outcome)


def delivery(bound: str) -> str:
    return of("ingestd_collect_delivery_seconds_bucket", le=bound)


AVAILABLE = of("ingestd_collect_available")
KAFKA = of("ingestd_collect_kafka_available")
JOURNAL, LIMIT = of("ingestd_collect_journal_bytes"), of("ingestd_collect_journal_limit_bytes")
JOURNAL_AGE = of("ingestd_collect_journal_oldest_seconds")
KEPT_APART = of("ingestd_collect_refused_events")

COLLECTOR_CASES: dict[str, Case] = {
    "IngestdCollectorUnavailable": Case(
        5,
        {AVAILABLE: "1 0x10"},
        A,
        "a cannot make events safe (available = 0): senders get 503.",
        [{AVAILABLE: "1x10"}, {AVAILABLE: "1x4 0x6"}],
    ),
    "IngestdCollectorKafkaUnavailable": Case(
        10,
        {KAFKA: "1 0x20"},
        A,
        "Kafka does not acknowledge events of a (available = 0).",
        [{KAFKA: "1x20"}, {KAFKA: "1x5 0x15"}],
    ),
    "IngestdCollectorJournalFilling": Case(
        5,
        {JOURNAL: "850x10", LIMIT: "1000x10"},
        A,
        "The journal of a is 85% full; at 100% senders get 503.",
        [{JOURNAL: "790x10", LIMIT: "1000x10"}],
    ),
    "IngestdCollectorJournalOld": Case(
        30,
        {JOURNAL_AGE: "0+60x60"},
        A,
        "An event has been in the journal of a for 30m 0s.",
        [{JOURNAL_AGE: "850x60"}, {JOURNAL_AGE: "0x60"}],
    ),
    "IngestdCollectorErrors": Case(
        20,
        {requests(200): "0+980x30", requests(503): "0+15x30", requests(500, ""): "0+5x30"},
        JOB,
        "2% of the requests to the collector are answered with an error of the server.",
        [
            {requests(200): "0+995x30", requests(503): "0+5x30"},
            {requests(200): "0+500x30", requests(401): "0+500x30"},
            {requests(200): "0x30", requests(503): "0x30"},
        ],
    ),
    "IngestdCollectorUnmappable": Case(
        40,
        {events("delivered"): "0+90x60", events("timestamp"): "0+6x60", events("not_json"): "0+4x60"},
        {"job": "ingestd", "source": "web"},
        "10% of the events of source web cannot be mapped.",
        [
            {events("delivered"): "0+96x60", events("timestamp"): "0+4x60"},
            *(
                {events("delivered"): "0+1x60", events(other): "0+9x60"}
                for other in ("dropped", "unavailable", "refused")
            ),
        ],
    ),
    "IngestdCollectorDenied": Case(
        40,
        {requests(200): "0+20x60", requests(401): "0+20x60"},
        {"job": "ingestd", "source": "web", "status": "401"},
        '300 requests to source "web" were answered with 401 in 15 minutes.',
        [
            {requests(200): "0+1000x60", requests(401): "0+20x60"},
            {requests(200): "0+1x60", requests(401): "0+5x60"},
            {requests(200): "0+20x60", requests(400): "0+20x60"},
        ],
        also=({requests(200): "0+20x60", requests(403): "0+20x60"}, {requests(403, ""): "0+20x60"}),
    ),
    "IngestdCollectorEventsRefused": Case(
        1, {KEPT_APART: "3x5"}, A, "The topic refuses 3 events of a.", [{KEPT_APART: "0x5"}]
    ),
    "IngestdCollectorSlow": Case(
        30,
        {delivery("1.0"): "0+50x40", delivery("2.5"): "0+100x40", delivery("+Inf"): "0+100x40"},
        A,
        "Events of a are safe after 2.47s at their 99th percentile.",
        [
            {delivery("1.0"): "0+100x40", delivery("2.5"): "0+100x40", delivery("+Inf"): "0+100x40"},
            {delivery("1.0"): "0x40", delivery("2.5"): "0x40", delivery("+Inf"): "0x40"},
        ],
    ),
}
