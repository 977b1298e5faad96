"""The pytest plugin: virtual time, and chaos by seeds. It is there wherever the package is installed."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import pytest
from _pytest.runner import runtestprotocol

from supervision.chaos import Chaos
from supervision.faults import FaultPlan, Profile
from supervision.testing import Ledger
from supervision.virtual import VirtualClock, VirtualLoop

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

__all__ = ["chaos", "ledger", "virtual_clock"]

SEEDS: Final = 200
_VIRTUAL: Final = (
    "virtual_time: run an async test on a loop whose time jumps whenever nothing is ready"
)
_CHAOS: Final = (
    'chaos(profile="gentle", seeds=200, faults=None): run once for each seed, in virtual time, with '
    "faults at 5, 15 or 30 % of all opportunities (gentle, moderate, aggressive)"
)


@pytest.fixture
def virtual_clock() -> VirtualClock:
    """The clock of a test in virtual time; a test that asks for it is one."""
    return VirtualClock()


@pytest.fixture
def ledger() -> Ledger:
    """A record of effects outside of what crashes."""
    return Ledger()


@pytest.fixture
def chaos(request: pytest.FixtureRequest) -> Generator[Chaos]:
    """The faults of one seed; for tests marked with ``chaos``."""
    campaign = request.node.stash.get(_CAMPAIGN, None)
    if campaign is None:
        pytest.fail(f"{request.node.nodeid} wants chaos: mark it @pytest.mark.chaos", pytrace=False)
    chaos = campaign.chaos()
    yield chaos
    chaos.close()


# Virtual time


class _VirtualLoops:
    @pytest.hookimpl(tryfirst=True, optionalhook=True)
    def pytest_asyncio_loop_factories(self) -> Mapping[str, type[VirtualLoop]]:
        return {"virtual_time": VirtualLoop}


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> Generator[None]:
    """Have pytest-asyncio run this test on a virtual loop, if it is to; others are left alone."""
    definition = metafunc.definition
    wanted = (
        "virtual_clock" in metafunc.fixturenames
        or definition.get_closest_marker("virtual_time") is not None
        or definition.get_closest_marker("chaos") is not None
    )
    if not wanted or not metafunc.config.pluginmanager.hasplugin("asyncio"):
        return (yield)
    loops = metafunc.config.pluginmanager.register(_VirtualLoops(), "supervision-virtual-loops")
    try:
        return (yield)
    finally:
        metafunc.config.pluginmanager.unregister(name=loops)


# Chaos


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("chaos")
    group.addoption("--chaos-seed", type=int, metavar="N", help="run this seed and no other")
    group.addoption("--chaos-seeds", type=int, metavar="N", help="run the seeds from 0 to N-1")


def pytest_configure(config: pytest.Config) -> None:
    """Make the markers known."""
    config.addinivalue_line("markers", _VIRTUAL)
    config.addinivalue_line("markers", _CHAOS)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Run a chaos test once for each seed, with fresh fixtures, up to the first that fails."""
    mark = item.get_closest_marker("chaos")
    if mark is None:
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    try:
        campaign = item.stash[_CAMPAIGN] = Campaign(item, mark)
    except ValueError as error:
        reports = [*_refused(item, f"{item.nodeid}: {error}"), *_leave(item, nextitem)]
    else:
        reports = campaign.run(item, nextitem)
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Tell which faults the chaos tests have really met."""
    told = {
        report.nodeid: dict(report.user_properties)["chaos"]
        for reports in terminalreporter.stats.values()
        for report in reports
        if "chaos" in dict(getattr(report, "user_properties", ()))
    }
    if not told:
        return
    terminalreporter.section("chaos")
    for nodeid, line in sorted(told.items()):
        terminalreporter.line(f"{nodeid}: {line}")


class Campaign:
    """All seeds of one test.

    Args:
        item: The test.
        mark: Its ``chaos`` mark.
    """

    def __init__(self, item: pytest.Item, mark: pytest.Mark) -> None:
        """Read the mark and the options."""
        unknown = set(mark.kwargs) - {"profile", "seeds", "faults"}
        if mark.args or unknown:
            given = ", ".join([*map(repr, mark.args), *(f"{name}=" for name in sorted(unknown))])
            raise ValueError(f"chaos takes profile=, seeds= and faults=, not {given}")
        self._profile = _profile(mark.kwargs.get("profile", Profile.GENTLE))
        self._faults = mark.kwargs.get("faults")
        one = item.config.getoption("--chaos-seed")
        many = item.config.getoption("--chaos-seeds")
        many = mark.kwargs.get("seeds", SEEDS) if many is None else many
        if many < 1:
            raise ValueError(f"chaos with seeds={many!r} tries nothing")
        self._replays = one is not None
        self._seeds = range(many) if one is None else range(one, one + 1)
        self._seed = 0
        self._runs = 0
        self._last: Chaos | None = None
        self._reached: Counter[str] = Counter()

    def chaos(self) -> Chaos:
        """Give the faults of the seed whose turn it is."""
        self._last = Chaos(FaultPlan(self._seed, self._profile.rate, self._faults))
        return self._last

    def run(self, item: pytest.Item, nextitem: pytest.Item | None) -> list[pytest.TestReport]:
        """Run the seeds; gives the reports of the first that fails, else of the last."""
        reports: list[pytest.TestReport] = []
        took_s = 0.0
        for seed in self._seeds:
            self._seed = seed
            is_last = seed == self._seeds[-1]
            after: Any = nextitem if is_last else item.parent
            item._report_sections.clear()  # noqa: SLF001 - what the seed before has printed
            reports = runtestprotocol(item, log=False, nextitem=after)
            took_s += sum(report.duration for report in reports if report.when == "call")
            self._count()
            if any(not report.passed for report in reports):
                if not is_last:
                    reports += _leave(item, nextitem)
                break
        self._tell(item, reports, took_s)
        return reports

    def _count(self) -> None:
        self._runs += 1
        if self._last is not None:
            self._reached += self._last.reached

    def _tell(self, item: pytest.Item, reports: list[pytest.TestReport], took_s: float) -> None:
        faults = ", ".join(f"{fault} {count}" for fault, count in sorted(self._reached.items()))
        seeds = f"{self._runs} seed{'' if self._runs == 1 else 's'}, {self._profile}"
        line = f"{seeds}: {faults or 'no fault at all'}"
        for report in reports:
            if report.failed:
                self._lead_with_seed(item, report)
            if report.when != "call":
                continue
            report.duration = took_s
            report.user_properties.append(("chaos", line))
            if report.passed and not self._reached and not self._replays:
                report.outcome = "failed"
                only = "" if self._faults is None else f" of {', '.join(sorted(self._faults))}"
                report.longrepr = (
                    f"chaos: no fault{only} happened in {seeds}, so this test shows nothing. "
                    "Give the tree to chaos.attach(...), or run more seeds."
                )

    def _lead_with_seed(self, item: pytest.Item, report: pytest.TestReport) -> None:
        first = (
            f"chaos: seed {self._seed} fails ({self._profile}). Replay it: "
            f'pytest "{_from_here(item)}" --chaos-seed {self._seed}'
        )
        longrepr: Any = report.longrepr
        chain = getattr(longrepr, "chain", None)
        if chain:
            entries = chain[0][0].reprentries
            entries.insert(0, _line_of_report(first))
            crash = longrepr.reprcrash
            if crash is not None:
                crash.message = f"[chaos seed {self._seed}] {crash.message}"
        else:
            report.longrepr = f"{first}\n{longrepr}"
        if self._last is not None and self._last.log:
            log = "\n".join(map(str, self._last.log))
            report.sections.append(("what went wrong on purpose, in order", log))


_CAMPAIGN: Final = pytest.StashKey[Campaign]()


def _from_here(item: pytest.Item) -> str:
    """Name a test for the directory that pytest was run in; a node id is for the root."""
    path = os.path.relpath(item.path, item.config.invocation_params.dir)
    return f"{path}::{item.nodeid.partition('::')[2]}"


def _profile(name: str) -> Profile:
    try:
        return Profile(name)
    except ValueError:
        known = ", ".join(repr(profile.value) for profile in Profile)
        raise ValueError(f"profile={name!r} is refused: it must be one of {known}") from None


def _line_of_report(line: str) -> Any:
    from _pytest._code.code import ReprEntryNative  # noqa: PLC0415 - only for a test that failed

    return ReprEntryNative([f"{line}\n"])


def _refused(item: pytest.Item, why: str) -> list[pytest.TestReport]:
    call = pytest.CallInfo.from_call(lambda: pytest.fail(why, pytrace=False), when="setup")
    return [pytest.TestReport.from_item_and_call(item, call)]


def _leave(item: pytest.Item, nextitem: pytest.Item | None) -> list[pytest.TestReport]:
    """Tear down what the next test does not need; the seeds that were not run would have."""

    def tear_down() -> None:
        item.session._setupstate.teardown_exact(nextitem)  # noqa: SLF001 - as pytest's runner does

    call = pytest.CallInfo.from_call(tear_down, when="teardown")
    return [] if call.excinfo is None else [pytest.TestReport.from_item_and_call(item, call)]
