"""For every test: no deadlines in hypothesis, serial tests on one worker, no fault of our own."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Iterator

# before anything imports them: assertions of the checks tell what they compared
pytest.register_assert_rewrite("tests.corpus.checks")

settings.register_profile("beamflow", deadline=None, print_blob=True)
settings.load_profile("beamflow")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put all serial tests on one xdist worker, so that none runs beside another."""
    for item in items:
        if item.get_closest_marker("serial"):
            item.add_marker(pytest.mark.xdist_group("serial"))


class _Faults(logging.Handler):
    """Keeps what was told of actors that a fault of beamflow's own has crashed.

    A supervisor mends it, so nothing else shows: a test that looks at the result would pass.
    """

    OUR_OWN = ("AssertionError(", "AttributeError(", "KeyError(", "NameError(", "TypeError(")

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.told: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        line = record.getMessage()
        if any(f"error={quote}{name}" in line for name in self.OUR_OWN for quote in "'\""):
            self.told.append(line)


@pytest.fixture(autouse=True)
def _no_fault_of_ours() -> Iterator[None]:
    """No actor has crashed of what no test puts there."""
    faults = _Faults()
    logger = logging.getLogger("beamflow")
    logger.addHandler(faults)
    yield
    logger.removeHandler(faults)
    assert faults.told == []
