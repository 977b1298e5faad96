"""For every test: no wall-clock deadlines in hypothesis, serial tests on one worker."""

from __future__ import annotations

import pytest
from hypothesis import settings

# before anything imports them: assertions of the checks tell what they compared
pytest.register_assert_rewrite("tests.corpus.checks")

settings.register_profile("beamflow", deadline=None, print_blob=True)
settings.load_profile("beamflow")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put all serial tests on one xdist worker, so that none runs beside another."""
    for item in items:
        if item.get_closest_marker("serial"):
            item.add_marker(pytest.mark.xdist_group("serial"))
