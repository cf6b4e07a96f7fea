"""Helm, and the types that Prometheus' operator and KEDA add to Kubernetes' API."""

from pathlib import Path

from tests.services.go import go_files, go_program

_HELM = "v3.22.0"
_OPERATOR = "v0.85.0"
_KEDA = "v2.21.0"
_FOLDER = "example/prometheus-operator-crd/monitoring.coreos.com_"


def ensure_helm() -> Path:
    """Its program."""
    return go_program("helm", "helm.sh/helm/v3/cmd/helm", _HELM)


def ensure_types() -> tuple[Path, ...]:
    """Their CustomResourceDefinitions, as YAML files."""
    operator = (f"{_FOLDER}servicemonitors.yaml", f"{_FOLDER}prometheusrules.yaml")
    keda = ("config/crd/bases/keda.sh_scaledobjects.yaml", "config/crd/bases/keda.sh_triggerauthentications.yaml")
    return (
        *go_files("prometheus-operator", "github.com/prometheus-operator/prometheus-operator", _OPERATOR, operator),
        *go_files("keda", "github.com/kedacore/keda/v2", _KEDA, keda),
    )
