import pytest

# Cases are no test modules themselves, so pytest would leave their asserts without values.
pytest.register_assert_rewrite("tests.collect.sdk_cases", "tests.collect.sdk_kafka_cases")
