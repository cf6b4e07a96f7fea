"""Free ports."""

import subprocess
import sys

from tests.services.ports import GRPC_OFFSET, free_port, is_free

# All choose their blocks in the same order, so that only the reservations keep them apart.
_MANY = (
    "import random; random.seed(1); from tests.services.ports import free_port; "
    "print(*(free_port() for _ in range(60))); input()"
)


def test_processes_that_run_at_once_are_given_different_ports() -> None:
    programs = [
        subprocess.Popen([sys.executable, "-c", _MANY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    given: list[str] = []
    for program in programs:
        assert program.stdout
        given += program.stdout.readline().split()
    for program in programs:
        program.communicate("\n", timeout=60)

    assert len(given) == len(set(given)) == 4 * 60


def test_a_port_that_is_given_is_free_together_with_its_second() -> None:
    port = free_port()

    assert is_free(port)
    assert is_free(port + GRPC_OFFSET)
