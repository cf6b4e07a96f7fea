"""The Helm chart: rendered by Helm, valid for Kubernetes' API, and in agreement with the daemon that it runs."""

import subprocess
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml

import ingestd
from ingestd.capacity.defaults import MEASURED
from ingestd.config.keys import KEYS, variable
from ingestd.config.model import HealthConfig
from ingestd.ops.health import HealthServer
from tests.deploy.chart import (
    CHART,
    DEPLOY,
    EVERYTHING,
    KINESIS,
    LEAST,
    OTHER_SOURCES,
    PRODUCTION,
    PRODUCTION_VALUES,
    SCENARIOS,
    SQS,
    STATIC,
    VERSIONS,
    Manifest,
    Values,
    added_types,
    container,
    effective,
    helm,
    mounted,
    of_kind,
    pod,
    render,
    workload,
)
from tests.services.helm import ensure_helm


@pytest.fixture
def rendered() -> dict[str, list[Manifest]]:
    return {name: render(values) for name, values in SCENARIOS.items()}


# -- Kubernetes' word


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("scenario", [*SCENARIOS, *OTHER_SOURCES])
def test_every_object_is_one_that_kubernetes_takes(scenario: str, version: str) -> None:
    added = added_types()
    for each in render({**SCENARIOS, **OTHER_SOURCES}[scenario], version):
        if schema := added.get((each["apiVersion"], each["kind"])):
            jsonschema.validate(each, schema)
        else:
            kubernetes_validate.validate(each, version, strict=True)


def test_a_field_that_no_type_has_is_noticed(rendered: dict[str, list[Manifest]]) -> None:
    monitor = of_kind(rendered["production"], "ServiceMonitor")
    monitor["spec"]["endpoints"][0]["intervall"] = monitor["spec"]["endpoints"][0].pop("interval")
    with pytest.raises(jsonschema.ValidationError, match="intervall"):
        jsonschema.validate(monitor, added_types()[monitor["apiVersion"], monitor["kind"]])


# -- the daemon's word


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_daemon_reads_what_the_values_say(
    rendered: dict[str, list[Manifest]], scenario: str, tmp_path: Path
) -> None:
    values, config = SCENARIOS[scenario], effective(rendered[scenario], tmp_path)

    assert config.kafka.bootstrap_servers == tuple(values["kafka"]["bootstrapServers"])
    assert config.sink.url == values["sink"]["url"]
    assert (config.health.enabled, config.health.host, config.log.format) == (True, "::", "json")
    assert config.kafka.client_id == "ingestd-0"
    if "sasl" in values["kafka"]:
        assert config.kafka.security_protocol == "SASL_SSL"
        assert config.kafka.sasl_username == "from-a-secret"


def test_the_user_can_be_left_to_the_cluster() -> None:
    ids = {"runAsUser", "runAsGroup", "fsGroup"}
    usual = pod(render(LEAST))["spec"]["securityContext"]
    assert {key: usual[key] for key in ids} == dict.fromkeys(ids, 10001)
    left = pod(render({**LEAST, "podSecurity": dict.fromkeys(ids)}))["spec"]["securityContext"]
    assert left == {key: value for key, value in usual.items() if key not in ids}
    assert left["runAsNonRoot"] is True


def test_every_variable_is_a_key_of_the_daemon() -> None:
    oauth = {"kafka": {**PRODUCTION_VALUES["kafka"], "sasl": {"secret": "s", "mechanism": "OAUTHBEARER"}}}
    known = {"INGESTD_CONFIG", *map(variable, KEYS)}
    for values in (EVERYTHING, STATIC, {**LEAST, **oauth, "sink": {"url": "s3://b", "lineage": "2"}}):
        assert {each["name"] for each in container(render(values))["env"]} <= known


def test_msk_with_iam_takes_the_role_of_the_pod_and_no_secret(tmp_path: Path) -> None:
    iam = {**PRODUCTION_VALUES["kafka"], "sasl": {"mechanism": "AWS_MSK_IAM"}}
    values = {**LEAST, "kafka": iam, "sink": {"url": "s3://bucket"}, "aws": {"region": "eu-central-1"}}
    kafka = effective(render(values), tmp_path).kafka
    assert (kafka.security_protocol, kafka.sasl_mechanism, kafka.iam_region) == (
        "SASL_SSL",
        "AWS_MSK_IAM",
        "eu-central-1",
    )
    assert kafka.sasl_password_file is None


def test_what_the_chart_rests_on_cannot_be_set_otherwise_in_the_file(tmp_path: Path) -> None:
    file = 'grace = "1h"\n[health]\nhost = "127.0.0.1"\nport = 1\nenabled = false\n[kafka]\ngroup_id = "other"\n'
    manifests = render({**LEAST, "config": file})

    config = effective(manifests, tmp_path)

    assert (float(config.grace), config.health.host, config.health.port) == (60, "::", 9464)
    assert config.health.enabled
    assert config.kafka.group_id == "ingestd"


@pytest.mark.parametrize("grace", [5, 60, 3600])
def test_kubernetes_kills_later_than_the_daemon_ends_by_itself(grace: int, tmp_path: Path) -> None:
    manifests = render({**LEAST, "graceSeconds": grace})
    assert (
        pod(manifests)["spec"]["terminationGracePeriodSeconds"] > float(effective(manifests, tmp_path).grace) == grace
    )


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_probes_ask_what_the_daemon_answers_and_only_a_dead_loop_is_killed(
    rendered: dict[str, list[Manifest]], scenario: str, tmp_path: Path
) -> None:
    it = container(rendered[scenario])
    served = HealthServer(HealthConfig(), lambda: None, lambda: (b"", "")).paths  # type: ignore[arg-type,return-value]
    (port,) = it["ports"]
    assert port == {"name": "http", "containerPort": effective(rendered[scenario], tmp_path).health.port}
    probes = {kind: it[f"{kind}Probe"]["httpGet"] for kind in ("liveness", "startup", "readiness")}
    assert {each["port"] for each in probes.values()} == {"http"}
    assert {each["path"] for each in probes.values()} <= set(served)
    assert (probes["liveness"]["path"], probes["readiness"]["path"]) == ("/livez", "/readyz")


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_there_is_memory_for_the_budget_and_what_was_measured_beside_it(
    rendered: dict[str, list[Manifest]], scenario: str, tmp_path: Path
) -> None:
    limit = container(rendered[scenario])["resources"]["limits"]["memory"]
    beside = 256 << 20  # as docs/operations.md says
    assert limit.endswith("Mi")
    assert int(limit[:-2]) << 20 >= effective(rendered[scenario], tmp_path).batch.memory + beside


def test_the_chart_is_of_this_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == ingestd.__version__


def test_the_image_runs_as_the_user_that_it_is_made_for(rendered: dict[str, list[Manifest]]) -> None:
    context = pod(rendered["production"])["spec"]["securityContext"]
    dockerfile = (DEPLOY / "container" / "Dockerfile").read_text()
    assert f"\nUSER {context['runAsUser']}:{context['runAsGroup']}\n" in dockerfile


# -- what goes together


def test_every_selector_finds_the_pods_and_every_target_is_there(rendered: dict[str, list[Manifest]]) -> None:
    for manifests in rendered.values():
        name = workload(manifests)["metadata"]["name"]
        # No version among them: a selector of a workload can never be changed.
        selected = {"app.kubernetes.io/name": "ingestd", "app.kubernetes.io/instance": "ingestd"}
        assert selected.items() <= pod(manifests)["metadata"]["labels"].items()
        for each in manifests:
            spec = each.get("spec", {})
            match each["kind"]:
                case "Service":
                    assert spec["selector"] == selected
                    assert spec["publishNotReadyAddresses"]
                case "Deployment" | "StatefulSet" | "PodDisruptionBudget":
                    assert spec["selector"]["matchLabels"] == selected
                case "NetworkPolicy":
                    assert spec["podSelector"]["matchLabels"] == selected
                case "ServiceMonitor":
                    service = of_kind(manifests, "Service")
                    assert spec["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
                    assert spec["endpoints"][0]["port"] in {port["name"] for port in service["spec"]["ports"]}
                case "ScaledObject":
                    assert spec["scaleTargetRef"] == {"kind": workload(manifests)["kind"], "name": name}
                    names = {it["metadata"]["name"] for it in manifests if it["kind"] == "TriggerAuthentication"}
                    assert {trigger["authenticationRef"]["name"] for trigger in spec["triggers"]} <= names
        account = of_kind(manifests, "ServiceAccount")["metadata"]["name"]
        assert pod(manifests)["spec"]["serviceAccountName"] == account


def test_secrets_are_named_and_never_held(rendered: dict[str, list[Manifest]], tmp_path: Path) -> None:
    for manifests in rendered.values():
        assert not [each for each in manifests if each["kind"] == "Secret"]
        assert not [
            each for each in container(manifests)["env"] if "PASSWORD" in each["name"] and "FILE" not in each["name"]
        ]
    config = effective(rendered["production"], tmp_path)
    assert config.kafka.sasl_password_file is not None
    assert mounted(rendered["production"], str(Path(config.kafka.sasl_password_file).parent))["secret"] == {
        "secretName": "kafka-credentials",
        "defaultMode": 0o440,
        "items": [{"key": "password", "path": Path(config.kafka.sasl_password_file).name}],
    }
    assert config.kafka.ssl_ca_file is not None
    assert mounted(rendered["production"], str(Path(config.kafka.ssl_ca_file).parent))["secret"]["items"] == [
        {"key": "ca.crt", "path": Path(config.kafka.ssl_ca_file).name}
    ]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_pods_meet_the_restricted_pod_security_standard(rendered: dict[str, list[Manifest]], scenario: str) -> None:
    spec, context = pod(rendered[scenario])["spec"], container(rendered[scenario])["securityContext"]
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert context == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not spec["automountServiceAccountToken"]
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()


def test_a_static_member_is_named_after_its_pod_and_a_deployments_is_not(
    rendered: dict[str, list[Manifest]], tmp_path: Path
) -> None:
    assert effective(rendered["static"], tmp_path).kafka.group_instance_id == "ingestd-0"
    assert workload(rendered["static"])["kind"] == "StatefulSet"
    assert (
        workload(rendered["static"])["spec"]["serviceName"]
        == of_kind(rendered["static"], "Service")["metadata"]["name"]
    )
    assert effective(rendered["production"], tmp_path).kafka.group_instance_id is None


def test_no_daemon_is_added_before_another_has_gone() -> None:
    assert workload(render(LEAST))["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}


def test_nodes_can_be_drained_while_nobody_is_ready(rendered: dict[str, list[Manifest]]) -> None:
    spec = of_kind(rendered["least"], "PodDisruptionBudget")["spec"]
    assert (spec["maxUnavailable"], spec["unhealthyPodEvictionPolicy"]) == (1, "AlwaysAllow")


def test_a_change_of_the_file_starts_the_daemons_anew() -> None:
    before, after = (pod(render({**LEAST, "config": text}))["metadata"] for text in ("", 'grace = "1s"'))
    assert before["annotations"] != after["annotations"]


def test_the_role_is_the_service_accounts(rendered: dict[str, list[Manifest]]) -> None:
    annotations = of_kind(rendered["everything"], "ServiceAccount")["metadata"]["annotations"]
    assert annotations == {
        "eks.amazonaws.com/role-arn": PRODUCTION_VALUES["aws"]["roleArn"],
        "iam.gke.io/gcp-service-account": "a@b.example.com",
    }


def test_only_what_is_needed_passes(rendered: dict[str, list[Manifest]], tmp_path: Path) -> None:
    policy = of_kind(rendered["production"], "NetworkPolicy")["spec"]
    assert [rule["ports"] for rule in policy["ingress"]] == [[{"protocol": "TCP", "port": "http"}]]
    ports = [(each["protocol"], each["port"]) for rule in policy["egress"] for each in rule["ports"]]
    assert ports == [("UDP", 53), ("TCP", 53), ("TCP", 9093), ("TCP", 443)]
    closed_off = {**LEAST, "networkPolicy": {"scrapeFrom": []}}
    assert of_kind(render(closed_off), "NetworkPolicy")["spec"]["ingress"] == []


def test_the_scaler_watches_the_lag_of_the_daemons_own_group(
    rendered: dict[str, list[Manifest]], tmp_path: Path
) -> None:
    config = effective(rendered["production"], tmp_path)
    scaled = of_kind(rendered["production"], "ScaledObject")["spec"]

    watched = [each["metadata"] for each in scaled["triggers"]]

    assert [each["topic"] for each in watched] == list(config.kafka.topics)
    for each in watched:
        assert each["consumerGroup"] == config.kafka.group_id
        assert tuple(each["bootstrapServers"].split(",")) == config.kafka.bootstrap_servers
        # One that keeps up with 40,000 events a second lags by what arrives within an interval, and asks for no second.
        assert int(each["lagThreshold"]) == 40_000 * config.batch.interval
        assert each["excludePersistentLag"] == "false"
        assert (each["sasl"], each["tls"]) == ("scram_sha512", "enable")
    cpu = container(rendered["production"])["resources"]["requests"]["cpu"]
    assert 40_000 * MEASURED.cpu_seconds_per_million / 1e6 <= float(cpu.removesuffix("m")) / 1000 / 2
    assert scaled["minReplicaCount"] >= 1
    assert "replicas" not in workload(rendered["production"])["spec"]


@pytest.mark.parametrize("source", OTHER_SOURCES)
def test_a_stream_or_a_queue_needs_no_broker(source: str, tmp_path: Path) -> None:
    manifests = render(OTHER_SOURCES[source])
    config = effective(manifests, tmp_path)

    assert config.source == source
    assert (config.kinesis.stream, config.kinesis.region, config.kinesis.member_id) == (
        ("marketing_events", "eu-central-1", "ingestd-0") if source == "kinesis" else ("marketing_events", None, None)
    )
    assert config.sqs.queue_url == (SQS["sqs"]["queueUrl"] if source == "sqs" else None)
    assert not [each["name"] for each in container(manifests)["env"] if "KAFKA" in each["name"]]
    egress = of_kind(manifests, "NetworkPolicy")["spec"]["egress"]
    assert [each["port"] for rule in egress for each in rule["ports"]] == [53, 53, 443], "a rule without ports is all"


def test_the_scaler_of_a_stream_counts_shards_and_that_of_a_queue_messages() -> None:
    for values, kind, metadata in (
        (KINESIS, "aws-kinesis-stream", {"streamName": "marketing_events", "shardCount": "4"}),
        (
            SQS,
            "aws-sqs-queue",
            {"queueURL": SQS["sqs"]["queueUrl"], "queueLength": "60000", "scaleOnInFlight": "false"},
        ),
    ):
        manifests = render(values)
        (trigger,) = of_kind(manifests, "ScaledObject")["spec"]["triggers"]
        assert trigger["type"] == kind
        assert trigger["metadata"] == {**metadata, "awsRegion": "eu-central-1"}
        authentication = of_kind(manifests, "TriggerAuthentication")
        assert trigger["authenticationRef"]["name"] == authentication["metadata"]["name"]
        assert authentication["spec"] == {"podIdentity": {"provider": "aws", "identityOwner": "workload"}}


def test_the_alerts_are_those_of_prometheus_own_file(rendered: dict[str, list[Manifest]]) -> None:
    files = sorted((DEPLOY / "prometheus").glob("*rules*.yml"))
    groups = [group for file in files for group in yaml.safe_load(file.read_text())["groups"]]
    assert of_kind(rendered["production"], "PrometheusRule")["spec"]["groups"] == groups


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({}, "bootstrapServers"),
        ({"kafka": LEAST["kafka"]}, "sink"),
        ({**LEAST, "replica": 3}, "replica"),
        ({**LEAST, "sink": {"url": "/data"}}, "url"),
        ({**LEAST, "kafka": {"bootstrapServers": ["broker"]}}, "bootstrapServers"),
        ({**LEAST, "terminationMarginSeconds": 0}, "terminationMarginSeconds"),
        ({**LEAST, "workload": "StatefulSet", "keda": {"enabled": True}}, "keda.enabled needs workload: Deployment"),
        ({**LEAST, "keda": {"enabled": True, "minReplicas": 9}}, "keda.minReplicas = 9 is more than"),
        ({**LEAST, "serviceAccount": {"create": False}}, "serviceAccount.name is needed"),
        ({"source": "kinesis", "sink": LEAST["sink"]}, "stream"),
        ({"source": "sqs", "sink": LEAST["sink"]}, "queueUrl"),
        ({"source": "pubsub", "sink": LEAST["sink"]}, "source"),
        ({**KINESIS, "aws": {"region": ""}}, "keda.enabled needs aws.region"),
        ({**KINESIS, "collect": {"enabled": True}}, "bootstrapServers"),
    ],
)
def test_bad_values_are_refused_by_name(values: Values, complaint: str) -> None:
    done = helm(values)
    assert done.returncode != 0
    assert complaint in done.stderr


def test_helm_finds_nothing_to_complain_about() -> None:
    command = [ensure_helm(), "lint", "--strict", CHART, "--values", PRODUCTION, "--kube-version", VERSIONS[-1]]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
