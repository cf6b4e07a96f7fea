"""The collector in the Helm chart: beside the daemon, never in its way, and with a journal only where that stays."""

import re
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest

from ingestd.config.keys import KEYS, variable
from ingestd.config.model import CollectConfig
from ingestd.config.types import Size
from ingestd.config.validate import problems
from ingestd.config.validate_collect import running_collector_problems
from tests.deploy.chart import (
    ALONE,
    COLLECT,
    JOURNAL,
    LEAST,
    PRODUCTION_VALUES,
    VERSIONS,
    Manifest,
    Values,
    added_types,
    container,
    effective,
    helm,
    mounted,
    notes,
    of_kind,
    pod,
    render,
    workload,
)

BOTH = {"collect": COLLECT, "journal": JOURNAL}
ALL = {**BOTH, "alone": ALONE}
#: Those with a journal.
KEEPING = {"journal": JOURNAL, "alone": ALONE}


def parts(values: Values, version: str = VERSIONS[-1]) -> tuple[list[Manifest], list[Manifest]]:
    """The objects of the collector, and those of the daemon."""
    found: dict[str, list[Manifest]] = {"ingestd-collect": [], "ingestd": []}
    for each in render(values, version):
        found[each["metadata"]["labels"]["app.kubernetes.io/name"]].append(each)
    return found["ingestd-collect"], found["ingestd"]


def collector(values: Values) -> list[Manifest]:
    return parts(values)[0]


def services(manifests: list[Manifest]) -> dict[str, Manifest]:
    return {each["metadata"]["name"]: each["spec"] for each in manifests if each["kind"] == "Service"}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("scenario", ALL)
def test_every_object_is_one_that_kubernetes_takes(scenario: str, version: str) -> None:
    for each in render(ALL[scenario], version):
        if schema := added_types().get((each["apiVersion"], each["kind"])):
            jsonschema.validate(each, schema)
        else:
            kubernetes_validate.validate(each, version, strict=True)


def test_it_is_off_where_nobody_asks_for_it_and_changes_nothing_of_the_daemon() -> None:
    without = {key: value for key, value in COLLECT.items() if key != "collect"}
    assert parts(without)[0] == []
    assert parts(COLLECT)[1] == parts(JOURNAL)[1] == parts(without)[1]


@pytest.mark.parametrize("scenario", BOTH)
def test_the_collector_reads_what_the_values_say(scenario: str, tmp_path: Path) -> None:
    config = effective(collector(BOTH[scenario]), tmp_path)
    assert list(running_collector_problems(config.collect, "the chart")) == []
    assert (config.collect.host, config.collect.port, config.health.host) == ("::", 8080, "::")
    assert config.collect.public_url == "https://e.example.com"
    assert config.kafka.bootstrap_servers == tuple(COLLECT["kafka"]["bootstrapServers"])
    assert config.kafka.security_protocol == "SASL_SSL"
    known = {"INGESTD_CONFIG", *map(variable, KEYS)}
    assert {each["name"] for each in container(collector(BOTH[scenario]))["env"]} <= known


def test_keys_and_mappings_are_where_the_configuration_says(tmp_path: Path) -> None:
    manifests = collector(COLLECT)
    source = effective(manifests, tmp_path).collect.sources["shop"]
    assert source.key_file is not None
    assert source.mapping is not None
    assert mounted(manifests, str(Path(source.key_file).parent))["secret"] == {
        "secretName": "collect-keys",
        "defaultMode": 0o400,
    }
    assert "fsGroup" in pod(manifests)["spec"]["securityContext"], "or its user could not read them"
    assert Path(source.mapping).name in of_kind(manifests, "ConfigMap")["data"]
    assert str(Path(source.mapping).parent) == "/etc/ingestd"
    assert not [each for each in manifests if each["kind"] == "Secret"]


@pytest.mark.parametrize("scenario", KEEPING)
def test_a_journal_is_on_a_volume_that_outlives_its_pod(scenario: str, tmp_path: Path) -> None:
    manifests = collector(KEEPING[scenario])
    config = effective(manifests, tmp_path)
    it = workload(manifests)
    assert config.collect.journal is not None
    (claim,) = it["spec"]["volumeClaimTemplates"]
    places = {each["mountPath"]: each["name"] for each in container(manifests)["volumeMounts"]}
    assert places[str(Path(config.collect.journal).parent)] == claim["metadata"]["name"]
    assert it["kind"] == "StatefulSet"
    assert it["spec"]["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    assert claim["spec"]["storageClassName"] == "fast"
    assert config.collect.journal_bytes < Size.parse(claim["spec"]["resources"]["requests"]["storage"] + "B")
    assert it["spec"]["serviceName"] in services(manifests)
    assert not [each for each in pod(manifests)["spec"]["volumes"] if "emptyDir" in each]


def test_without_a_volume_there_is_no_journal_even_where_the_file_names_one(tmp_path: Path) -> None:
    text = COLLECT["collect"]["config"] + '[collect]\njournal = "/tmp/journal.sqlite"\n'
    manifests = collector({**COLLECT, "collect": {**COLLECT["collect"], "config": text}})
    assert effective(manifests, tmp_path).collect.journal is None
    assert workload(manifests)["kind"] == "Deployment"
    assert workload(manifests)["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


@pytest.mark.parametrize("scenario", ALL)
def test_it_is_killed_later_than_it_ends_by_itself(scenario: str, tmp_path: Path) -> None:
    manifests = collector(ALL[scenario])
    before = container(manifests)["lifecycle"]["preStop"]["sleep"]["seconds"]
    grace = float(effective(manifests, tmp_path).grace)
    assert pod(manifests)["spec"]["terminationGracePeriodSeconds"] > before + grace


@pytest.mark.parametrize("scenario", ALL)
def test_only_a_dead_loop_is_killed(scenario: str) -> None:
    it = container(collector(ALL[scenario]))
    assert it["livenessProbe"]["httpGet"] == it["startupProbe"]["httpGet"] == {"path": "/livez", "port": "http"}


def test_requests_come_while_they_can_be_answered() -> None:
    """Without Kafka, /readyz fails while the store is away, and the journal takes events all the same."""
    for values in BOTH.values():
        assert container(collector(values))["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}
    it = container(collector(ALONE))
    assert it["readinessProbe"]["tcpSocket"] == {"port": "events"}
    assert "httpGet" not in it["readinessProbe"]


@pytest.mark.parametrize("scenario", BOTH)
def test_every_selector_finds_the_collectors_pods_and_none_of_the_daemons(scenario: str) -> None:
    ours, others = parts(BOTH[scenario])
    selected = {"app.kubernetes.io/name": "ingestd-collect", "app.kubernetes.io/instance": "ingestd"}
    assert selected.items() <= pod(ours)["metadata"]["labels"].items()
    assert not selected.items() <= pod(others)["metadata"]["labels"].items()
    assert {str(each["selector"]) for each in services(ours).values()} == {str(selected)}
    for kind in (workload(ours)["kind"], "PodDisruptionBudget", "ServiceMonitor"):
        assert of_kind(ours, kind)["spec"]["selector"]["matchLabels"] == selected
    assert of_kind(ours, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"] == selected


@pytest.mark.parametrize("scenario", ALL)
def test_a_request_from_outside_arrives_at_a_ready_pod(scenario: str) -> None:
    manifests = collector(ALL[scenario])
    ingress = of_kind(manifests, "Ingress")["spec"]
    (rule,) = ingress["rules"]
    (path,) = rule["http"]["paths"]
    service = services(manifests)[path["backend"]["service"]["name"]]
    (port,) = service["ports"]
    assert (rule["host"], ingress["tls"]) == ("e.example.com", [{"secretName": "e-tls", "hosts": ["e.example.com"]}])
    assert port["name"] == path["backend"]["service"]["port"]["name"]
    assert {"name": port["targetPort"], "containerPort": 8080} in container(manifests)["ports"]
    assert "publishNotReadyAddresses" not in service


def test_only_the_ingress_sends_and_only_prometheus_scrapes() -> None:
    policy = of_kind(collector(COLLECT), "NetworkPolicy")["spec"]
    let_in = {rule["ports"][0]["port"]: rule["from"] for rule in policy["ingress"]}
    assert let_in.keys() == {"events", "http"}
    assert let_in["events"] != let_in["http"]
    closed = {**COLLECT, "collect": {**COLLECT["collect"], "sendFrom": []}, "networkPolicy": {"scrapeFrom": []}}
    assert not of_kind(collector(closed), "NetworkPolicy")["spec"]["ingress"]
    assert policy["egress"] == of_kind(parts(COLLECT)[1], "NetworkPolicy")["spec"]["egress"]


@pytest.mark.parametrize("scenario", BOTH)
def test_pods_are_as_confined_as_the_daemons_and_without_its_role(scenario: str) -> None:
    ours, others = parts(BOTH[scenario])
    assert container(ours)["securityContext"] == container(others)["securityContext"]
    assert container(ours)["securityContext"]["readOnlyRootFilesystem"]
    context = {**pod(ours)["spec"]["securityContext"], "fsGroupChangePolicy": "OnRootMismatch"}
    assert context == {**pod(others)["spec"]["securityContext"], "fsGroupChangePolicy": "OnRootMismatch"}
    account = of_kind(ours, "ServiceAccount")
    assert account["metadata"]["name"] == pod(ours)["spec"]["serviceAccountName"]
    assert "annotations" not in account["metadata"]
    assert not pod(ours)["spec"]["automountServiceAccountToken"]


@pytest.mark.parametrize("scenario", ALL)
def test_a_change_of_its_files_starts_it_anew(scenario: str) -> None:
    values = ALL[scenario]
    before = pod(collector(values))["metadata"]["annotations"]
    changes: tuple[Values, ...] = ({"config": ""}, {"files": {}})
    for changed in changes:
        after = collector({**values, "collect": {**values["collect"], **changed}})
        assert pod(after)["metadata"]["annotations"] != before
    in_daemons_file = pod(collector({**values, "config": ""}))["metadata"]["annotations"] != before
    assert in_daemons_file == (scenario == "alone")


@pytest.mark.parametrize(
    ("collect", "complaint"),
    [
        ({"ingress": {"enabled": True}}, "collect.ingress.host is needed"),
        ({"journal": {"enabled": True, "size": "big"}}, "size"),
        ({"files": {"ingestd.toml": ""}}, "ingestd.toml"),
        ({"journall": {}}, "journall"),
    ],
)
def test_bad_values_are_refused_by_name(collect: dict[str, Any], complaint: str) -> None:
    done = helm({**LEAST, "collect": {"enabled": True, **collect}})
    assert done.returncode != 0
    assert complaint in done.stderr


def test_there_is_memory_for_what_is_in_flight(tmp_path: Path) -> None:
    limit = Size.parse(f"{container(collector(COLLECT))['resources']['limits']['memory']}B")
    assert limit >= CollectConfig().body_memory + (256 << 20)
    config = effective(collector(ALONE), tmp_path)
    assert container(collector(ALONE))["resources"]["limits"]["memory"] == f"{limit >> 20}Mi"
    assert limit >= config.collect.body_memory + config.batch.memory + (128 << 20)


# -- without Kafka


def test_without_kafka_one_process_takes_events_and_writes_them_to_the_sink(tmp_path: Path) -> None:
    ours, others = parts(ALONE)
    config = effective(ours, tmp_path)
    assert [each["kind"] for each in others] == ["ServiceAccount"], "the daemon for Kafka is not there"
    assert container(ours)["args"] == ["run"]
    assert list(problems(config)) == []
    assert (config.source, config.sink.url, config.s3.region) == ("collector", "s3://bucket", "eu-central-1")
    assert (config.collect.host, config.collect.port, config.health.host) == ("::", 8080, "::")
    assert config.collect.sources.keys() == {"shop"}
    assert float(config.batch.interval) == 60, "of `config`, which the daemons for Kafka have, too"
    assert config.s3.encryption == "aws:kms"
    known = {"INGESTD_CONFIG", "POD_NAME", *map(variable, KEYS)}
    assert {each["name"] for each in container(ours)["env"]} <= known


def test_without_kafka_each_pod_has_a_chain_of_its_own(tmp_path: Path) -> None:
    env = [each["name"] for each in container(collector(ALONE))["env"]]
    assert env.index("POD_NAME") < env.index("INGESTD__SINK__LINEAGE"), "or Kubernetes would not replace the name"
    assert effective(collector(ALONE), tmp_path).sink.lineage == "ingestd-0"
    again = {**ALONE, "sink": {**ALONE["sink"], "lineage": "2"}}
    assert effective(collector(again), tmp_path).sink.lineage == "ingestd-0-2"


def test_without_kafka_its_role_is_the_sinks_and_it_reaches_no_broker(tmp_path: Path) -> None:
    values = {**ALONE, "kafka": PRODUCTION_VALUES["kafka"]}
    ours, others = parts(values)
    account = of_kind(others, "ServiceAccount")
    assert not [each for each in ours if each["kind"] == "ServiceAccount"]
    assert account["metadata"]["name"] == pod(ours)["spec"]["serviceAccountName"]
    assert account["metadata"]["annotations"]["eks.amazonaws.com/role-arn"] == ALONE["aws"]["roleArn"]
    ports = [
        (each["protocol"], each["port"])
        for rule in of_kind(ours, "NetworkPolicy")["spec"]["egress"]
        for each in rule["ports"]
    ]
    assert ports == [("UDP", 53), ("TCP", 53), ("TCP", 443)]
    assert not [each for each in container(ours)["env"] if "KAFKA" in each["name"]]
    assert {each["name"] for each in container(ours)["volumeMounts"]} == {"config", "model", "keys", "journal"}
    assert {each["name"] for each in pod(ours)["spec"]["volumes"]} == {"config", "model", "keys"}
    assert ours == parts(ALONE)[0]


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"source": "kinesisis"}, "source"),
        ({"sink": {}}, "sink"),
        ({"keda": {"enabled": True}}, "keda.enabled needs source: kafka, kinesis or sqs"),
        ({"source": "kafka"}, "bootstrapServers"),
    ],
)
def test_bad_values_without_kafka_are_refused_by_name(values: Values, complaint: str) -> None:
    done = helm({**ALONE, **values})
    assert done.returncode != 0
    assert complaint in done.stderr


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (ALONE, ("statefulset/ingestd-collect\n", "events/ingestd-collect-N/.")),
        (COLLECT, ("deployment/ingestd\n", "deployment/ingestd-collect\n")),
        (JOURNAL, ("deployment/ingestd\n", "statefulset/ingestd-collect\n")),
        (LEAST, ("deployment/ingestd\n",)),
    ],
    ids=["alone", "collect", "journal", "least"],
)
def test_the_notes_name_what_is_there(values: Values, names: tuple[str, ...], tmp_path: Path) -> None:
    text = notes(values, tmp_path)
    workloads = {f"{each['kind']}/{each['metadata']['name']}\n".lower() for each in render(values)}
    assert not [name for name in names if name not in text], text
    assert {it + "\n" for it in re.findall(r"rollout status (\S+)", text)} <= workloads
