import pytest


@pytest.fixture(autouse=True)
def always_by_row(by_row):
    """What is under test is mostly the way by row; see `test_small_tables.py`."""
