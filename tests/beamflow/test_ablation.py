"""Take one safeguard of beamflow out at a time: each time the test that holds it must fail.

``BEAMFLOW_EXHAUSTIVE=1`` tries all of them, as ``make chaos`` does; a test run a few.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXHAUSTIVE = os.environ.get("BEAMFLOW_EXHAUSTIVE") == "1"
SAMPLE = 3
FEW = {"BEAMFLOW_PROGRAMS": "50"}


@dataclass(frozen=True)
class Ablation:
    """A safeguard, what it holds, where it stands, what stands there without it, and who notices."""

    name: str
    holds: str
    file: str
    old: str
    new: str
    test: str


ENGINE = "tests/beamflow/engine"
STORES = "tests/beamflow/stores"

ABLATIONS = [
    Ablation(
        "append before acknowledge",
        "I1",
        "engine/workflow_actor.py",
        "        if events:\n            try:\n",
        "        acknowledge(messages)\n        if events:\n            try:\n",
        f"{ENGINE}/test_workflow_actor.py::test_a_signal_is_acknowledged_when_it_is_durable",
    ),
    Ablation(
        "the sync of each commit",
        "I2",
        "stores/sqlite/store.py",
        'synchronous = "FULL" if self._durability == "full" else "NORMAL"',
        'synchronous = "NORMAL"',
        f"{STORES}/test_power_loss.py::test_a_power_cut_at_any_moment",
    ),
    Ablation(
        "one append for a cause and what follows",
        "I3",
        "engine/workflow_actor.py",
        "for event in consequences(self._code, commands, idle=self._is_idle):",
        "for event in ():",
        f"{ENGINE}/test_faults.py::test_a_cause_and_what_follows_from_it_are_one_append",
    ),
    Ablation(
        "the look at where the stream ends",
        "I4",
        "stores/memory.py",
        "if len(entries) != expected:",
        "if False:",
        f"{ENGINE}/test_workflow_actor.py::test_a_conflict_is_settled_by_reading",
    ),
    Ablation(
        "time that comes from the log",
        "I5",
        "engine/workflow_loop.py",
        "return self.now / MICROSECONDS",
        "return __import__('time').time()",
        f"{ENGINE}/test_programs.py::test_a_cut_at_any_event_repeats_and_goes_on_the_same",
    ),
    Ablation(
        "the outcome that settles a step",
        "I6",
        "engine/execution.py",
        "        self.now = time\n        self._close_call(event.op)\n"
        "        if call.step.compensated_by is not None:",
        "        self.now = time\n        if call.step.compensated_by is not None:",
        f"{ENGINE}/test_recovery.py::test_a_run_that_is_cut_at_any_event_comes_to_the_same_end",
    ),
    Ablation(
        "the look at what is under way",
        "I7",
        "engine/effects.py",
        "            if op in pending.attempts or op in pending.timers:\n                continue\n",
        "",
        f"{ENGINE}/test_faults.py::test_a_step_under_way_is_not_begun_again",
    ),
    Ablation(
        "the expected end of a new stream",
        "I11",
        "engine/workflow_actor.py",
        "        except ConflictError:\n            if self._stream.seq:\n                raise\n",
        "",
        f"{ENGINE}/test_engine.py::test_starting_again_after_the_end_runs_nothing",
    ),
    Ablation(
        "the look at the last event",
        "I12",
        "engine/awakening.py",
        "        if isinstance(last.event, Ended):\n",
        "        if False:\n",
        f"{ENGINE}/test_recovery.py::test_a_recovered_end_is_no_start",
    ),
    Ablation(
        "signals that are kept until somebody asks",
        "I13",
        "engine/inbox.py",
        "            self._kept.setdefault(name, deque()).append(signal)\n",
        "            pass\n",
        f"{ENGINE}/test_handle.py::test_a_signal_before_it_is_asked_for_is_kept",
    ),
    Ablation(
        "what a sleeping workflow is woken by",
        "I14",
        "engine/awakening.py",
        "return [*messages]",
        "return []",
        f"{ENGINE}/test_awake.py::test_messages_at_any_moment_of_leaving",
    ),
    Ablation(
        "the look after parents that sleep",
        "I13",
        "engine/effects.py",
        "is_watched=children is not None and children.any",
        "is_watched=False",
        f"{ENGINE}/test_awake.py::test_a_child_that_ended_in_the_moment_of_a_crash",
    ),
    Ablation(
        "the end of the sleep that an earlier life has noted",
        "I13",
        "engine/stream.py",
        "        self.sleep = None\n",
        "        self.sleep = AWAKE\n",
        f"{ENGINE}/test_awake.py::test_who_was_woken_goes_on_after_a_crash",
    ),
    Ablation(
        "the order of signals",
        "I14",
        "engine/inbox.py",
        "            signal = kept.popleft()\n",
        "            signal = kept.pop()\n",
        f"{ENGINE}/test_faults.py::test_signals_that_wait_keep_their_order",
    ),
    Ablation(
        "signals that go along into the next run",
        "I15",
        "engine/inbox.py",
        "return tuple((name, signal.payload) for signal, name in kept)",
        "return ()",
        f"{ENGINE}/test_renewal.py::test_a_storm_of_signals_goes_on_from_run_to_run",
    ),
    Ablation(
        "the second look at the clock",
        "I16",
        "engine/timers.py",
        "while self._heap and self._heap[0].due <= now:",
        "while self._heap:",
        f"{ENGINE}/test_timers.py::test_callbacks_come_in_the_order_of_their_time",
    ),
    Ablation(
        "the number of attempts",
        "I18",
        "policies/retry.py",
        "if attempt >= self.max_attempts:",
        "if attempt > self.max_attempts:",
        f"{ENGINE}/test_attempt.py::test_attempts_that_are_used_up_fail_for_good",
    ),
    Ablation(
        "the reverse order of undoing",
        "I19",
        "engine/execution.py",
        "Unwinding(reversed(calls), self.workflow.name)",
        "Unwinding(list(calls), self.workflow.name)",
        f"{ENGINE}/test_rollback.py::test_a_block_that_fails_is_undone_and_the_workflow_goes_on",
    ),
    Ablation(
        "settling what can be undone",
        "I20",
        "engine/pending.py",
        "if call is not None and call.is_wanted:",
        "if False:",
        f"{ENGINE}/test_saga.py"
        "::test_a_step_with_a_compensation_that_was_given_up_is_settled_first",
    ),
    Ablation(
        "undoing that cannot be cancelled",
        "I21",
        "engine/saga.py",
        "        return False\n\n\ndef saga_of",
        "        return super().cancel(msg)\n\n\ndef saga_of",
        f"{ENGINE}/test_rollback.py::test_a_cancellation_does_not_cut_undoing_off",
    ),
    Ablation(
        "the end of the grace",
        "I21",
        "engine/steering.py",
        "alarms[Alarm.FORCE] = self.cancel.deadline",
        "pass",
        f"{ENGINE}/test_steering.py::test_code_that_swallows_the_cancel_is_taken_away",
    ),
    Ablation(
        "children first",
        "I22",
        "engine/children.py",
        'return any(call.on_close != "abandon" or call.cancelled for call, _ in self._tasks.values())',
        "return False",
        f"{ENGINE}/test_children.py::test_a_parent_ends_after_the_children_it_cancels",
    ),
    Ablation(
        "the log before a child is told",
        "I22",
        "engine/children.py",
        "        if call.op in given_up:\n            await self._tell(call)",
        "        if call.cancelled:\n            await self._tell(call)",
        f"{ENGINE}/test_children.py"
        "::test_a_child_is_told_of_nothing_that_its_parents_log_does_not_say",
    ),
    Ablation(
        "the moment from which nobody is held",
        "I13",
        "engine/probation.py",
        """        if last:  # at this moment: whoever came to be held later would stay so
            quarantine.hold_no_more()
""",
        """        if last:
            await self._note(ProbationBegan(workflows=()))
            quarantine.hold_no_more()
""",
        f"{ENGINE}/test_probation.py::test_who_is_woken_while_the_held_are_noted_is_not_held",
    ),
    Ablation(
        "the time that a suspect is drawn",
        "I26",
        "engine/suspects.py",
        "draw * DRAWS[one.alone - 1] * window_s",
        "0.0",
        f"{ENGINE}/test_suspects.py::test_no_innocent_is_parked_whatever_kills_the_process",
    ),
    Ablation(
        "room for the crashes of one workflow",
        "I26",
        "engine/workflows.py",
        "super().__init__(max_restarts=10_000, max_seconds=1.0)",
        "super().__init__(max_restarts=1, max_seconds=60.0)",
        f"{ENGINE}/test_workflows.py::test_many_crashes_of_one_cost_no_other_its_life",
    ),
    Ablation(
        "one letter for one cause",
        "I27",
        "engine/dead_letters.py",
        "if there is None or there.reason is not request.reason:",
        "if True:",
        f"{ENGINE}/test_faults.py::test_the_bad_ones_among_a_hundred",
    ),
    Ablation(
        "the index that says who stands still",
        "I28",
        "stores/projection.py",
        "state=WorkflowState.PARKED",
        "state=WorkflowState.RUNNING",
        f"{ENGINE}/test_faults.py::test_each_workflow_is_counted_once_at_every_moment",
    ),
    Ablation(
        "the comparison of arguments",
        "I29",
        "engine/execution.py",
        "call.step.name == event.name and call.digest == event.digest",
        "call.step.name == event.name",
        f"{ENGINE}/test_execution.py::test_other_code_than_the_recorded_is_noticed",
    ),
    Ablation(
        "the version that a workflow stays with",
        "I30",
        "engine/definitions.py",
        "found = versions.get(version)\n",
        "found = versions.get(version) or next(iter(versions.values()), None)\n",
        f"{ENGINE}/test_definitions.py::test_an_open_workflow_stays_with_its_version",
    ),
    Ablation(
        "the refusal of newer stores",
        "I31",
        "stores/sqlite/file.py",
        "if schema > len(_MIGRATIONS):",
        "if False:",
        "tests/acceptance/test_upgrade.py::test_a_newer_store_is_left_as_it_is",
    ),
    Ablation(
        "the lease that is given back",
        "I33",
        "engine/store_keeper.py",
        "await services.store.release(lease)",
        "pass",
        f"{ENGINE}/test_store_keeper.py::test_an_engine_may_wait_for_the_lease",
    ),
    Ablation(
        "the stop at the first failed write",
        "I34",
        "stores/sqlite/commits.py",
        "            self.fail(unavailable(self._store, error))\n"
        "            raise self.refusal() from error\n        finally",
        "            self.in_flight = None\n            await self.serve()\n        finally",
        f"{STORES}/test_sqlite.py::test_a_failed_write_answers_everybody",
    ),
    Ablation(
        "states that only move on",
        "I35",
        "stores/projection.py",
        "state=WorkflowState.FAILED",
        "state=WorkflowState.RUNNING",
        f"{ENGINE}/test_faults.py::test_what_is_read_never_goes_back",
    ),
    Ablation(
        "answers that draw on nothing",
        "I36",
        "engine/handle.py",
        "        summary = await self._summary()\n        waiting",
        "        self._services.mint_id()\n        summary = await self._summary()\n        waiting",
        f"{ENGINE}/test_faults.py::test_reading_changes_nothing",
    ),
    Ablation(
        "fencing in the commit",
        "I38",
        "stores/sql/sqlite/migrations/0001.sql",
        "WHERE partition = 0 AND epoch = NEW.epoch AND owner IS NOT NULL\n",
        "WHERE partition = 0\n",
        f"{STORES}/test_sqlite.py::test_a_stuck_owner_is_fenced",
    ),
    Ablation(
        "an epoch for each owner",
        "I39",
        "stores/sql/sqlite/claim.sql",
        "epoch = epoch + 1",
        "epoch = max(epoch, 1)",
        f"{ENGINE}/test_faults.py::test_two_engines_whose_clocks_differ",
    ),
    Ablation(
        "the word to a parent that sleeps",
        "I13",
        "engine/workflow_actor.py",
        "            self.services.sleepers.wake(parent)",
        "            pass",
        f"{ENGINE}/test_awake.py::test_parents_and_children_sleep",
    ),
    Ablation(
        "the look whether a run is about to begin",
        "I13",
        "engine/workflow_actor.py",
        """            or code.ending
            or code.rollbacks
""",
        """            or code.rollbacks
""",
        f"{ENGINE}/test_awake.py::test_a_new_run_that_is_about_to_begin",
    ),
    Ablation(
        "the second look before one leaves",
        "I13",
        "engine/workflow_actor.py",
        "if not self.has_queued() and self._is_at_rest() and sleep == self._effects.sleep():",
        "if True:",
        f"{ENGINE}/test_awake.py::test_a_child_that_ends_while_its_parent_leaves",
    ),
    Ablation(
        "the note of who is to be woken",
        "I16",
        "engine/workflow_actor.py",
        "self.services.sleepers.slept(self.workflow_id, sleep.until)",
        "pass",
        f"{ENGINE}/test_awake.py::test_time_wakes_who_sleeps",
    ),
    Ablation(
        "the start and what follows in one append",
        "I3",
        "engine/workflow_actor.py",
        """            await self._take([awakening.begin()], [])
""",
        """            await self._stream.record(*awakening.events)
            return False
""",
        f"{ENGINE}/test_patches.py::test_an_answer_is_in_the_log_with_what_the_question_followed",
    ),
    Ablation(
        "the end of the tries of a start",
        "I26",
        "engine/workflow_actor.py",
        "if self.services.crashes.get(self.workflow_id, 0) + 1 >= CRASHES_MAX:",
        "if False:",
        f"{ENGINE}/test_workflow_actor.py::test_a_start_that_breaks_its_actor_is_not_tried_for_ever",
    ),
    Ablation(
        "the judgement of each as it comes",
        "I26",
        "engine/probation.py",
        """        await self._admit(last=last)
""",
        """        if last:
            await self._admit(last=last)
""",
        f"{ENGINE}/test_probation.py::test_the_first_do_not_wait_for_the_last",
    ),
    Ablation(
        "turns beside recovery",
        "I26",
        "engine/probation.py",
        """            _ = self.spawn(self._let_go(), name="turns")
""",
        """            await self._let_go()
""",
        f"{ENGINE}/test_probation.py::test_nobody_waits_for_those_who_wait_for_their_turn",
    ),
    Ablation(
        "room beside those who are held",
        "I26",
        "engine/awake.py",
        "self._places = self._most + min(held, -(-self._most // 4))",
        "self._places = self._most",
        f"{ENGINE}/test_probation.py::test_nobody_waits_for_those_who_wait_for_their_turn",
    ),
    Ablation(
        "the wait for a place",
        "I32",
        "engine/awake.py",
        "        if not self._waiting and len(self._actors) + self._coming < self._places:",
        "        if True:",
        f"{ENGINE}/test_places.py::test_a_start_waits_for_a_place",
    ),
    Ablation(
        "the slot of one who goes as it gets it",
        "I32",
        "engine/slots.py",
        "            if turn.done() and not turn.cancelled():\n                self.give_back()\n",
        "",
        f"{ENGINE}/test_slots.py::test_no_more_than_there_are",
    ),
    Ablation(
        "the place that is given back",
        "I32",
        "engine/awake.py",
        """        self._resting.pop(workflow_id, None)
        if self._waiting:
            self._admit()
""",
        """        self._resting.pop(workflow_id, None)
""",
        f"{ENGINE}/test_places.py::test_a_start_waits_for_a_place",
    ),
    Ablation(
        "the look whether a parent rests",
        "I37",
        "engine/children.py",
        "            self._actor.ref.cast(ChildrenRest())",
        "            pass",
        f"{ENGINE}/test_awake.py::test_a_parent_that_was_woken_leaves_again",
    ),
    Ablation(
        "the callbacks that nobody is to call",
        "I37",
        "engine/workflow_task.py",
        """        _tell_nobody(self)
""",
        "",
        f"{ENGINE}/test_collector.py::test_who_leaves_memory_takes_everything_along",
    ),
    Ablation(
        "the archive before the removal",
        "I41",
        "engine/retention.py",
        "going = [item for item in going if item.begun or item.id in kept]",
        "_ = kept",
        f"{ENGINE}/test_retention.py::test_what_cannot_be_archived_stays",
    ),
    Ablation(
        "the sync of the archive",
        "I41",
        "engine/archive.py",
        "            os.fsync(file.fileno())",
        "            pass",
        f"{ENGINE}/test_retention.py::test_the_archive_is_synced_before_the_removal",
    ),
    Ablation(
        "the places of those in memory",
        "I41",
        "engine/retention.py",
        "going = [item for item in some if item.id not in services.actors]",
        "going = [*some]",
        f"{ENGINE}/test_retention.py::test_who_is_in_memory_is_left_alone",
    ),
    Ablation(
        "the parent that may ask again",
        "I41",
        "stores/sql/sqlite/migrations/0004.sql",
        """        AND p.state NOT IN ('completed', 'cancelled')
""",
        """        AND 0
""",
        f"{ENGINE}/test_retention.py::test_a_tree_goes_when_nobody_asks_for_it_any_more",
    ),
    Ablation(
        "the second look at who is needed",
        "I41",
        "stores/sql/sqlite/migrations/0004.sql",
        "FROM beamflow_removable WHERE id = NEW.stream AND seq = NEW.seq AND needed_until <= NEW.at",
        "FROM beamflow_workflows WHERE id = NEW.stream",
        f"{ENGINE}/test_retention.py::test_who_goes_on_before_its_removal_stays",
    ),
    Ablation(
        "the look-up that knows of whoever sleeps meanwhile",
        "I16",
        "engine/sleepers.py",
        """            after, self._known_to = self._known_to, horizon  # who sleeps meanwhile tells us
            found = await self._store.sleepers(after, horizon[0], limit=room)
""",
        """            found = await self._store.sleepers(self._known_to, horizon[0], limit=room)
            self._known_to = horizon
""",
        f"{ENGINE}/test_sleepers.py::test_who_sleeps_while_others_are_looked_up",
    ),
    Ablation(
        "the note of who was at work",
        "I26",
        "engine/probation.py",
        "            await self._note(RecoveryBegan(under_way=under_way))\n",
        "            await self._note(RecoveryBegan(under_way={}))\n",
        f"{ENGINE}/test_probation.py::test_one_killer_among_sleepers_and_long_steps_is_parked",
    ),
]


def fails(folder: Path, ablation: Ablation | None, test: str) -> bool:
    """Run a test in a copy of the packages without a safeguard; tell whether it fails."""
    ignored = shutil.ignore_patterns("__pycache__", ".hypothesis")
    for name in ("supervision", "beamflow", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", folder)
    if ablation is not None:
        file = folder / "beamflow" / ablation.file
        source = file.read_text()
        assert source.count(ablation.old) == 1, f"{ablation.file} has changed: {ablation.old}"
        file.write_text(source.replace(ablation.old, ablation.new))
    options = ["-q", "-n", "0", "-p", "no:cacheprovider", "--timeout", "15", "--maxfail", "1"]
    try:
        run = subprocess.run(
            [sys.executable, "-m", "pytest", *options, test],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(folder), "BEAMFLOW_EXHAUSTIVE": "0", **FEW},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
    except subprocess.TimeoutExpired:
        return True  # it hangs where not even its own time-out reaches it
    # whoever hangs without it is ended by the time-out, with an exit code of its own
    hangs = "Timeout" in run.stdout + run.stderr
    assert run.returncode in {0, 1} or hangs, run.stdout + run.stderr
    return run.returncode != 0


def goes_unnoticed(tmp_path: Path, ablation: Ablation) -> str:
    """Return the name of a safeguard that its test does not miss; empty when it does."""
    folder = tmp_path / ablation.holds / ablation.file.replace("/", "-")
    return (
        "" if fails(folder / str(abs(hash(ablation))), ablation, ablation.test) else ablation.name
    )


@pytest.mark.slow
@pytest.mark.timeout(3600 if EXHAUSTIVE else 240)
def test_each_safeguard_is_missed_when_it_is_gone(tmp_path: Path) -> None:
    """By the test that names what it holds."""
    chosen = ABLATIONS if EXHAUSTIVE else random.sample(ABLATIONS, SAMPLE)
    with ThreadPoolExecutor(2) as pool:
        unnoticed = [name for name in pool.map(partial(goes_unnoticed, tmp_path), chosen) if name]
    assert unnoticed == []


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(not EXHAUSTIVE, reason="all of them pass in the run that this test is part of")
def test_with_everything_in_place_no_test_fails(tmp_path: Path) -> None:
    """The copy as it is passes, so that what fails above fails for what was taken out."""
    tests = sorted({ablation.test for ablation in ABLATIONS})
    failing = [each for n, each in enumerate(tests) if fails(tmp_path / f"{n}", None, each)]
    assert failing == []


def test_each_safeguard_stands_where_it_is_said_to() -> None:
    """So that nothing is taken out in vain."""
    for ablation in ABLATIONS:
        source = (ROOT / "beamflow" / ablation.file).read_text()
        assert source.count(ablation.old) == 1, f"{ablation.file}: {ablation.old}"
        path, _, name = ablation.test.partition("::")
        assert f"def {name}(" in (ROOT / path).read_text(), ablation.test
