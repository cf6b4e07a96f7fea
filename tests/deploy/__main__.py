"""Gets what the tests of this folder need, and says where it is. ``python -m tests.deploy``."""

import sys

from tests.deploy import image
from tests.services import terraform
from tests.services.chromium import find_chromium
from tests.services.clients import jvm_program, node_modules
from tests.services.environment import ensure_environment
from tests.services.helm import ensure_helm, ensure_types
from tests.services.process import ServiceError
from tests.services.prometheus import ensure_prometheus
from tests.services.systemd import ensure_systemd


def main() -> None:
    """One line for each, which begins before it is fetched or built."""
    for what, where in (
        ("Chromium", find_chromium),
        ("Node's analytics SDKs", node_modules),
        ("The JVM's analytics SDK", jvm_program),
        ("Prometheus and Alertmanager", lambda: ", ".join(map(str, ensure_prometheus()))),
        ("systemd's units", ensure_systemd),
        ("Terraform's judges", lambda: ensure_environment("terraform", terraform.REQUIREMENTS)),
        ("The image's root", lambda: image.build().root.folder),
        ("Types beside Kubernetes' own", lambda: ensure_types()[0].parent.parent),
        ("Helm, which Go builds the first time, in some five minutes", ensure_helm),
    ):
        print(f"{what}: ", end="", flush=True)
        print(where())


if __name__ == "__main__":
    try:
        main()
    except ServiceError as error:
        sys.exit(f"\n{error}")
