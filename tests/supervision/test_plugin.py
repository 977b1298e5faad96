"""The pytest plugin, as tests outside of this repository see it."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    Run = Callable[..., pytest.RunResult]

pytest_plugins = ["pytester"]

TREE = """
    import asyncio
    import pytest
    from supervision import Actor, ActorStoppedError, ChildSpec, Supervisor, run
    from supervision.testing import survives

    class Echo(Actor):
        async def handle_call(self, request):
            return request

    def tree(max_restarts=10_000):
        return Supervisor([ChildSpec("echo", Echo)], max_restarts=max_restarts)

    async def talk(root, times=20):
        for number in range(times):
            [echo] = [info.ref for info in await root.which_children()]
            if echo is not None:
                try:
                    await echo.call(number, timeout=None)
                except ActorStoppedError:
                    pass
            await asyncio.sleep(1)
"""


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Write a test file beside a tree, and run it as a project of its own would be run."""
    monkeypatch.setenv("COLUMNS", "200")  # for the summary to be told in full

    def run(test: str, *options: str, mode: str = "auto") -> pytest.RunResult:
        pytester.makeini(
            f"[pytest]\nasyncio_mode = {mode}\n"
            "asyncio_default_fixture_loop_scope = function\nfilterwarnings = error\n"
        )
        pytester.makepyfile(textwrap.dedent(TREE) + textwrap.dedent(test))
        return pytester.runpytest("-p", "no:cacheprovider", "-p", "no:randomly", *options)

    return run


class TestVirtualTime:
    """Which tests run on a virtual loop."""

    def test_a_marked_test_and_nobody_else(self, run: Run) -> None:
        """By the marker, or by asking for the clock; the loop of others is left alone."""
        result = run("""
            from supervision.virtual import VirtualLoop

            def is_virtual():
                return isinstance(asyncio.get_running_loop(), VirtualLoop)

            @pytest.mark.virtual_time
            async def test_marked():
                assert is_virtual()
                await asyncio.sleep(30 * 86400)

            async def test_asking(virtual_clock):
                assert is_virtual()
                before = virtual_clock.now()
                await asyncio.sleep(30 * 86400)
                assert virtual_clock.now() == before + 30 * 86400

            async def test_other():
                assert not is_virtual()
        """)
        result.assert_outcomes(passed=3)

    def test_in_strict_mode_with_async_fixtures(self, run: Run) -> None:
        """A fixture of the same loop lives in the same time."""
        result = run(
            """
            import pytest_asyncio

            @pytest_asyncio.fixture
            async def root():
                async with run(tree()) as root:
                    yield root

            @pytest.mark.asyncio
            @pytest.mark.virtual_time
            async def test_it(root):
                before = asyncio.get_running_loop().time()
                await talk(root)
                assert asyncio.get_running_loop().time() == before + 20
            """,
            mode="strict",
        )
        result.assert_outcomes(passed=1)

    def test_a_project_with_loop_factories_of_its_own(
        self, run: Run, pytester: pytest.Pytester
    ) -> None:
        """Its other tests keep them."""
        pytester.makeconftest("""
            import asyncio

            class TheirLoop(asyncio.SelectorEventLoop):
                pass

            def pytest_asyncio_loop_factories(config, item):
                return {"theirs": TheirLoop}
        """)
        result = run("""
            def kind():
                return type(asyncio.get_running_loop()).__name__

            @pytest.mark.virtual_time
            async def test_marked():
                assert kind() == "VirtualLoop"

            async def test_other():
                assert kind() == "TheirLoop"
        """)
        result.assert_outcomes(passed=2)

    def test_a_lost_wake_up_fails_the_test(self, run: Run) -> None:
        """At once, with who waits where; and the next test is not hurt."""
        result = run("""
            @pytest.mark.virtual_time
            async def test_forgotten():
                await asyncio.Event().wait()

            @pytest.mark.virtual_time
            async def test_next():
                await asyncio.sleep(1)
        """)
        result.assert_outcomes(passed=1, failed=1)
        result.stdout.fnmatch_lines(["*StuckError: nothing can ever happen any more*"])


SURVIVES = """
    @pytest.mark.chaos(profile="moderate", seeds=12)
    async def test_it(chaos):
        async with run(tree()) as root:
            chaos.attach(root)
            await talk(root)
            chaos.calm()
            await survives(root)
"""
FAILS_AT_TIMES = """
    @pytest.mark.chaos(profile="gentle", seeds=200, faults=["crash_before"])
    async def test_it(chaos):
        print("seed is", chaos.seed)
        async with run(tree(max_restarts=1)) as root:
            chaos.attach(root)
            await talk(root)
            chaos.calm()
            await survives(root)
"""


class TestChaos:
    """A test that is run by seeds."""

    def test_one_test_many_seeds(self, run: Run) -> None:
        """It counts as one, and the summary tells which faults it has met."""
        result = run(SURVIVES)
        result.assert_outcomes(passed=1)
        result.stdout.re_match_lines([r".*::test_it: 12 seeds, moderate: crash_after \d+, .*"])

    def test_fixtures_are_fresh_for_each_seed(self, run: Run) -> None:
        """Each seed has its own loop, tree and ledger, and what they hold is released."""
        result = run("""
            alive, seeds = [], []

            @pytest.fixture
            async def root(chaos):
                async with run(tree()) as root:
                    chaos.attach(root)
                    alive.append(root)
                    yield root
                alive.remove(root)

            @pytest.fixture(scope="module")
            def once():
                seeds.append("module")
                yield
                assert seeds == ["module", *range(5)]

            @pytest.mark.chaos(profile="aggressive", seeds=5)
            async def test_it(once, root, ledger, chaos):
                assert alive == [root]
                assert ledger.do("one", key=1)
                seeds.append(chaos.seed)
                await talk(root)

            def test_next():
                assert alive == []
        """)
        result.assert_outcomes(passed=2)

    def test_the_first_line_of_a_failure_is_the_seed(self, run: Run) -> None:
        """With the command that replays it; which fails again, and tells the same faults."""
        result = run(FAILS_AT_TIMES)
        result.assert_outcomes(failed=1)
        lines = result.outlines
        first = lines[next(i for i, line in enumerate(lines) if "_ test_it _" in line) + 1]
        assert first.startswith("chaos: seed ")
        seed = first.split()[2]
        assert first.endswith(f'::test_it" --chaos-seed {seed}')
        assert [line for line in lines if line.startswith("seed is")] == [f"seed is {seed}"]
        assert any(f"[chaos seed {seed}]" in line for line in lines if line.startswith("FAILED"))
        told = faults_of(lines)
        assert len(told) >= 2

        again = run(FAILS_AT_TIMES, "--chaos-seed", seed)
        again.assert_outcomes(failed=1)
        assert faults_of(again.outlines) == told
        assert sum(line.startswith("seed is") for line in again.outlines) == 1

    def test_the_seed_is_told_over_xdist(self, run: Run) -> None:
        """Where reports travel from a worker to who prints them."""
        result = run(FAILS_AT_TIMES, "-n", "1")
        result.assert_outcomes(failed=1)
        result.stdout.re_match_lines(
            [
                r"chaos: seed \d+ fails \(gentle\)\. Replay it: pytest .*",
                r".*::test_it: \d+ seeds.*",
            ]
        )

    def test_a_failing_fixture_has_its_seed_too(self, run: Run) -> None:
        """In set-up and in tear-down."""
        result = run("""
            @pytest.fixture
            def broken(chaos):
                yield
                assert chaos.seed < 3

            @pytest.mark.chaos(profile="aggressive", seeds=9)
            async def test_it(broken, chaos):
                async with run(tree()) as root:
                    chaos.attach(root)
                    await talk(root)

            def test_next():
                pass
        """)
        result.assert_outcomes(passed=2, errors=1)
        result.stdout.fnmatch_lines(["chaos: seed 3 fails*"])

    def test_no_fault_no_proof(self, run: Run) -> None:
        """A chaos test in which nothing went wrong has shown nothing."""
        result = run("""
            @pytest.mark.chaos(seeds=3)
            async def test_it(chaos):
                async with run(tree()) as root:
                    await talk(root)
        """)
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["chaos: no fault happened in 3 seeds, gentle*"])

    def test_the_number_of_seeds(self, run: Run) -> None:
        """The command line says it before the mark does."""
        result = run(SURVIVES, "--chaos-seeds", "3")
        result.assert_outcomes(passed=1)
        result.stdout.fnmatch_lines(["*::test_it: 3 seeds, moderate*"])

    def test_no_seeds_are_refused_on_the_command_line(self, run: Run) -> None:
        """As in the mark, whose number was taken instead."""
        result = run(SURVIVES, "--chaos-seeds", "0")
        result.assert_outcomes(errors=1)
        result.stdout.fnmatch_lines(["*seeds=0 tries nothing*"])

    def test_the_command_is_for_the_directory_it_was_run_in(
        self, run: Run, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Which may lie below the root of the project."""
        run(FAILS_AT_TIMES)
        below = pytester.mkdir("below")
        (test,) = pytester.path.glob("test_*.py")
        test.rename(below / test.name)
        monkeypatch.chdir(below)
        result = pytester.runpytest("-p", "no:cacheprovider")
        result.stdout.fnmatch_lines([f'chaos: seed*Replay it: pytest "{test.name}::test_it" *'])

    def test_a_skip_is_a_skip(self, run: Run) -> None:
        """It is not tried with the other seeds."""
        result = run("""
            @pytest.mark.chaos(seeds=3)
            async def test_it(chaos):
                pytest.skip("not today")
        """)
        result.assert_outcomes(skipped=1)

    @pytest.mark.parametrize(
        ("mark", "complaint"),
        [
            ("chaos(seed=3)", "chaos takes profile=, seeds= and faults=, not seed="),
            ("chaos('gentle')", "chaos takes profile=, seeds= and faults=, not 'gentle'"),
            ("chaos(profile='harsh')", "must be one of 'gentle', 'moderate', 'aggressive'"),
            ("chaos(faults=['crash'])", "no fault of crash happened"),
            ("chaos(seeds=0)", "seeds=0"),
            ("virtual_time", "mark it @pytest.mark.chaos"),
        ],
    )
    def test_a_mistake_in_the_mark(self, run: Run, mark: str, complaint: str) -> None:
        """It fails that test and says what is wrong."""
        result = run(f"""
            @pytest.mark.{mark}
            async def test_it(chaos):
                pass

            def test_next():
                pass
        """)
        assert result.ret == 1
        assert result.parseoutcomes()["passed"] == 1
        result.stdout.fnmatch_lines([f"*{complaint}*"])


def faults_of(lines: list[str]) -> list[str]:
    """Give the log of what went wrong on purpose."""
    head = next(i for i, line in enumerate(lines) if "what went wrong on purpose" in line)
    return [line for line in lines[head + 1 :] if line.startswith("/root/")]
