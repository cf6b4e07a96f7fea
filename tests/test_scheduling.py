"""Which files one worker runs together."""

from tests.scheduling import SLOW_TO_START, scope_of


def test_files_with_the_same_slow_service_are_one_scope() -> None:
    assert scope_of("tests/e2e/test_sqs.py") == scope_of("tests/contract/test_sqs_source.py") == "elasticmq"
    assert (
        scope_of("tests/e2e/test_kinesis.py") == scope_of("tests/contract/test_kinesis_servers.py") == "kinesis_local"
    )
    assert {"elasticmq", "kinesis_local"} < set(SLOW_TO_START)


def test_every_other_file_is_a_scope_of_its_own() -> None:
    assert scope_of("tests/e2e/test_outages.py") == "tests/e2e/test_outages.py"
