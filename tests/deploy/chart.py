"""Renders the Helm chart, finds what is in it, and knows the API's types that are not Kubernetes' own."""

import json
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml

from ingestd.config.load import load
from ingestd.config.model import Config
from tests.services.helm import ensure_helm, ensure_types

DEPLOY = Path(__file__).parents[2] / "deploy"
CHART = DEPLOY / "kubernetes" / "ingestd"
PRODUCTION = DEPLOY / "kubernetes" / "production.yaml"
#: The oldest that the chart takes, and the newest whose types are known.
VERSIONS = ("1.31", kubernetes_validate.latest_version())

Values = dict[str, Any]
Manifest = dict[str, Any]

#: As little as a user must say.
LEAST: Values = {"kafka": {"bootstrapServers": ["broker:9092"]}, "sink": {"url": "s3://bucket"}}
PRODUCTION_VALUES: Values = yaml.safe_load(PRODUCTION.read_text())
STATIC: Values = {**PRODUCTION_VALUES, "workload": "StatefulSet", "keda": {"enabled": False}}
EVERYTHING: Values = {
    **PRODUCTION_VALUES,
    "image": {"repository": "registry.example.com/ingestd", "digest": "sha256:" + 64 * "a"},
    "imagePullSecrets": ["pull"],
    "serviceAccount": {"annotations": {"iam.gke.io/gcp-service-account": "a@b.example.com"}},
    "kafka": {**PRODUCTION_VALUES["kafka"], "valueFormat": "registry"},
    "registry": {
        "urls": ["https://registry-a.example.com", "http://registry-b.example.com:8081/apis/ccompat/v7"],
        "secret": "registry-credentials",
        "caSecret": "registry-ca",
    },
    "networkPolicy": {"extraEgress": [{"to": [{"ipBlock": {"cidr": "169.254.170.23/32"}}]}]},
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
    "extraEnv": [{"name": "INGESTD__S3__ENCRYPTION", "value": "aws:kms"}],
    "extraVolumes": [{"name": "model", "configMap": {"name": "model"}}],
    "extraVolumeMounts": [{"name": "model", "mountPath": "/model"}],
    "podAnnotations": {"a": "b"},
    "podLabels": {"team": "data"},
    "nodeSelector": {"kubernetes.io/arch": "arm64"},
    "tolerations": [{"key": "data", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "priorityClassName": "high",
}
COLLECT: Values = {
    **PRODUCTION_VALUES,
    "collect": {
        "enabled": True,
        "publicUrl": "https://e.example.com",
        "config": (
            '[collect.sources.shop]\nkind = "hubspot"\nkey_file = "/run/secrets/collect/shop"\n'
            'mapping = "/etc/ingestd/shop.toml"\n'
        ),
        "files": {"shop.toml": '[constants]\nbrand = "north"\n'},
        "keySecret": "collect-keys",
        "ingress": {"enabled": True, "className": "nginx", "host": "e.example.com", "tlsSecret": "e-tls"},
    },
}
JOURNAL: Values = {**COLLECT, "collect": {**COLLECT["collect"], "journal": {"enabled": True, "storageClass": "fast"}}}
#: What the other sources need instead of brokers.
KINESIS: Values = {
    "source": "kinesis",
    "kinesis": {"stream": "marketing_events"},
    "sink": {"url": "s3://bucket"},
    "aws": {"region": "eu-central-1"},
    "keda": {"enabled": True},
}
SQS: Values = {
    **{key: value for key, value in KINESIS.items() if key != "kinesis"},
    "source": "sqs",
    "sqs": {"queueUrl": "https://sqs.eu-central-1.amazonaws.com/123456789012/marketing_events"},
}
#: Without Kafka.
ALONE: Values = {
    "source": "collector",
    "sink": LEAST["sink"],
    "aws": PRODUCTION_VALUES["aws"],
    "collect": {**COLLECT["collect"], "journal": {"storageClass": "fast"}},
    "serviceMonitor": {"enabled": True},
    "extraVolumes": EVERYTHING["extraVolumes"],
    "extraVolumeMounts": EVERYTHING["extraVolumeMounts"],
    "extraEnv": EVERYTHING["extraEnv"],
}
SCENARIOS = {"least": LEAST, "production": PRODUCTION_VALUES, "static": STATIC, "everything": EVERYTHING}
OTHER_SOURCES = {"kinesis": KINESIS, "sqs": SQS}


def helm(values: Values, version: str = VERSIONS[-1]) -> subprocess.CompletedProcess[str]:
    return _helm(json.dumps(values), version)


@cache
def _helm(values: str, version: str, chart: Path = CHART) -> subprocess.CompletedProcess[str]:
    command = [ensure_helm(), "template", "ingestd", chart, "--namespace", "data", "--kube-version", version]
    return subprocess.run(
        [*map(str, command), "--values", "-"], input=values, capture_output=True, text=True, check=False
    )


def render(values: Values, version: str = VERSIONS[-1]) -> list[Manifest]:
    done = helm(values, version)
    assert done.returncode == 0, done.stderr
    return [each for each in yaml.load_all(done.stdout, yaml.CSafeLoader) if each is not None]


def notes(values: Values, folder: Path) -> str:
    """What Helm prints after an installation, which `helm template` does not: as a manifest of a copy of the chart."""
    chart = folder / "chart"
    shutil.copytree(CHART, chart, dirs_exist_ok=True)
    (chart / "templates" / "NOTES.txt").replace(chart / "notes.txt")
    (chart / "templates" / "notes.yaml").write_text('kind: Notes\ntext: {{ tpl (.Files.Get "notes.txt") . | quote }}\n')
    done = _helm(json.dumps(values), VERSIONS[-1], chart)
    assert done.returncode == 0, done.stderr
    found = of_kind([each for each in yaml.load_all(done.stdout, yaml.CSafeLoader) if each is not None], "Notes")
    return str(found["text"])


def of_kind(manifests: list[Manifest], kind: str) -> Manifest:
    (found,) = (each for each in manifests if each["kind"] == kind)
    return found


def workload(manifests: list[Manifest]) -> Manifest:
    (found,) = (each for each in manifests if each["kind"] in {"Deployment", "StatefulSet"})
    return found


def pod(manifests: list[Manifest]) -> Manifest:
    template: Manifest = workload(manifests)["spec"]["template"]
    return template


def container(manifests: list[Manifest]) -> Manifest:
    (found,) = pod(manifests)["spec"]["containers"]
    return dict(found)


def effective(manifests: list[Manifest], tmp_path: Path) -> Config:
    """The configuration that a pod's daemon has, as the daemon itself reads it."""
    environ: dict[str, str] = {}
    name = workload(manifests)["metadata"]["name"]
    for each in container(manifests)["env"]:
        if "value" in each:
            environ[each["name"]] = each["value"].replace("$(POD_NAME)", environ.get("POD_NAME", "$(POD_NAME)"))
        elif "fieldRef" in each["valueFrom"]:
            assert each["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"
            environ[each["name"]] = "ingestd-0"
        else:
            environ[each["name"]] = "from-a-secret"
    assert environ["INGESTD_CONFIG"] == "/etc/ingestd/ingestd.toml"
    assert mounted(manifests, "/etc/ingestd") == {"name": "config", "configMap": {"name": name}}
    file = tmp_path / "ingestd.toml"
    file.write_text(of_kind(manifests, "ConfigMap")["data"]["ingestd.toml"])
    return load(path=str(file), environ=environ).config


def mounted(manifests: list[Manifest], path: str) -> Manifest:
    """The volume at a path of the container."""
    (mount,) = (each for each in container(manifests)["volumeMounts"] if each["mountPath"] == path)
    (volume,) = (each for each in pod(manifests)["spec"]["volumes"] if each["name"] == mount["name"])
    return dict(volume)


@cache
def added_types() -> dict[tuple[str, str], Manifest]:
    """Schemas of what is not Kubernetes' own, by version and kind; a field that is not known is refused."""
    found = {}
    for file in ensure_types():
        spec = yaml.load(file.read_text(), yaml.CSafeLoader)["spec"]
        for each in spec["versions"]:
            schema = each["schema"]["openAPIV3Schema"]
            schema["properties"]["metadata"]["x-kubernetes-preserve-unknown-fields"] = True
            found[f"{spec['group']}/{each['name']}", spec["names"]["kind"]] = closed(schema)
    return found


def closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: closed(value) for key, value in schema.items()}
    if isinstance(pattern := made.get("pattern"), str):
        made["pattern"] = pattern.replace("^(?i)", "(?i)^")  # as Python wants it
    if isinstance(schema.get("properties"), dict) and "x-kubernetes-preserve-unknown-fields" not in schema:
        made.setdefault("additionalProperties", False)
    return made
