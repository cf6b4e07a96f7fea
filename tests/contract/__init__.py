import pytest

# The contracts are no test modules themselves, so pytest would leave their asserts without values.
pytest.register_assert_rewrite("tests.contract.source_contract", "tests.contract.sink_contract")
