"""The proof that nothing was lost and nothing done twice: ``python proof.py FOLDER``.

It believes the services' own records. What beamflow says is looked at only to find where the two
disagree; no line of beamflow runs in here.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from application import Application, read_applications
from folder import SERVICES, Folder
from services.ledger import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from services.ledger import Entry

__all__ = ["Claim", "Proof", "prove"]

UNDER_WAY_US = 100_000
"""A request under way when the engine died may reach its service this much later."""
SHOWN = 5


class Claim(msgspec.Struct, frozen=True):
    """Something that must hold, and all that speaks against it."""

    text: str
    against: list[str]


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """What was found."""

    claims: list[Claim]
    endings: Counter[str]
    """How many applications ended as ``issued``, ``declined``, ``undone``; else ``broken``."""
    requests: dict[str, Counter[Outcome]]
    """What each service did with its requests."""
    kills: int
    repeated_after_kill: int
    """Steps that ran twice because a kill fell between the effect and its record."""
    repeated_after_silence: int
    """Steps that ran twice because the service kept its answer to itself."""

    @property
    def holds(self) -> bool:
        """True if nothing speaks against any claim."""
        return not any(claim.against for claim in self.claims)

    def lines(self) -> Iterator[str]:
        """Tell it to people."""
        for claim in self.claims:
            yield f"{'FAIL' if claim.against else ' ok '}  {claim.text}"
            yield from (f"      - {reason}" for reason in claim.against[:SHOWN])
            if len(claim.against) > SHOWN:
                yield f"      - and {len(claim.against) - SHOWN} more"


def prove(folder: Folder) -> Proof:
    """Read all records of a run and hold them against each other."""
    court = _Court(folder)
    return Proof(
        claims=[
            Claim(
                "every accepted application has one confirmed, billed policy, or nothing at all",
                list(court.against_endings()),
            ),
            Claim(
                "the dead-letter queue holds those that failed for good, and nobody else",
                list(court.against_dead_letters()),
            ),
            Claim(
                "no effect took place twice",
                list(court.against_effects()),
            ),
            Claim(
                "no step ran again once its completion was recorded",
                list(court.against_reruns()),
            ),
            Claim(
                "each step kept one idempotency key over all attempts and restarts",
                list(court.against_keys()),
            ),
            Claim(
                "what the engine had told before it was killed still holds",
                list(court.against_told()),
            ),
            Claim(
                "no refused row left a trace",
                list(court.against_strangers()),
            ),
        ],
        endings=court.endings(),
        requests={
            service: Counter(entry.outcome for entry in entries)
            for service, entries in court.services.items()
        },
        kills=len(court.restarts),
        repeated_after_kill=court.repeated(after_kill=True),
        repeated_after_silence=court.repeated(after_kill=False),
    )


class _Court:
    """All records of a run, and what speaks against each claim."""

    def __init__(self, folder: Folder) -> None:
        self.accepted = {
            row.id for row in read_applications(folder.applications) if isinstance(row, Application)
        }
        self.services = {service: folder.read_requests(service) for service in SERVICES}
        self.requests = [entry for entries in self.services.values() for entry in entries]
        self.policies = folder.read_policies()
        self.restarts = folder.read_restarts()
        self.told = folder.read_told()
        self.dead = {letter.workflow_id for letter in folder.read_dead_letters()}
        self.history = folder.read_history()
        self.effects = Counter(
            (entry.application, entry.action)
            for entry in self.requests
            if entry.outcome is Outcome.DONE
        )
        self.live = Counter(row.application for row in self.policies if not row.cancelled)
        self.log_end = {
            event.stream: event.event.type
            for event in self.history
            if event.event.type in {"workflow_completed", "workflow_failed"}
        }

    def ending(self, application: str) -> str:
        """Tell from the services' records how an onboarding has ended."""

        def count(action: str) -> int:
            return self.effects[application, action]

        found = (
            self.live[application],
            count("reserve_policy") - count("cancel_policy"),
            count("send_confirmation") - count("withdraw_confirmation"),
            count("notify_billing"),
        )
        if found == (1, 1, 1, 1):
            return "issued"
        if found == (0, 0, 0, 0):
            return "undone" if count("reserve_policy") else "declined"
        return "broken"

    def endings(self) -> Counter[str]:
        return Counter(map(self.ending, self.accepted))

    def against_endings(self) -> Iterator[str]:
        for application in sorted(self.accepted):
            ending = self.ending(application)
            if ending == "broken":
                yield f"{application}: {self._found(application)}"
            log = self.log_end.get(application, "no end")
            if log != ("workflow_failed" if ending == "undone" else "workflow_completed"):
                yield f"{application}: {ending} by the services' records, {log} by beamflow's log"

    def _found(self, application: str) -> str:
        counts = ", ".join(
            f"{count} x {action}"
            for (whose, action), count in sorted(self.effects.items())
            if whose == application and action not in {"validate_identity", "check_credit"}
        )
        return f"{self.live[application]} live policies ({counts or 'nothing happened'})"

    def against_dead_letters(self) -> Iterator[str]:
        undone = {name for name in self.accepted if self.ending(name) == "undone"}
        for application in sorted(undone - self.dead):
            yield f"{application}: undone, but not in the queue"
        for application in sorted(self.dead - undone):
            yield f"{application}: in the queue, but not undone"

    def against_effects(self) -> Iterator[str]:
        for (application, action), count in sorted(self.effects.items()):
            if count > 1:
                yield f"{application}: {action} took effect {count} times"

    def against_reruns(self) -> Iterator[str]:
        recorded = {
            (event.stream, event.event.name): event.time
            for event in self.history
            if event.event.type in {"step_completed", "compensation_completed"}
            or (event.event.type == "step_failed" and event.event.retry_at is None)
        }
        for entry in self.requests:
            time = recorded.get((entry.application, entry.action))
            if time is None:
                yield f"{entry.application}: {entry.action} was asked for, but is not in the log"
            elif entry.time > time:
                late = (entry.time - time) / 1_000_000
                yield f"{entry.application}: {entry.action} ran {late:.3f} s after it was recorded"

    def against_keys(self) -> Iterator[str]:
        keys: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
        for entry in self.requests:
            keys[entry.application, entry.action].add(entry.key)
        for (application, action), used in sorted(keys.items()):
            if len(used) > 1:
                yield f"{application}: {action} came with the keys {', '.join(sorted(used))}"
        for key, count in Counter(key for used in keys.values() for key in used).items():
            if count > 1:
                yield f"{key}: used by {count} steps"

    def against_told(self) -> Iterator[str]:
        numbers = {row.application: row.number for row in self.policies if not row.cancelled}
        word = {"declined": "declined", "undone": "failed"}
        heard = set[str]()
        for told in self.told:
            heard.add(told.application)
            if told.application not in self.accepted:
                yield f"{told.application}: told, but not in the file"
                continue
            ending = self.ending(told.application)
            truth = word.get(ending, f"policy {numbers.get(told.application)}")
            if told.ended and told.ended != truth:
                yield f"{told.application}: told as {told.ended!r}, but it is {truth!r}"
        for application in sorted(self.accepted - heard):
            yield f"{application}: never accepted by the engine"

    def against_strangers(self) -> Iterator[str]:
        seen: Iterable[str] = {entry.application for entry in self.requests} | set(self.log_end)
        for application in sorted(set(seen) - self.accepted):
            yield f"{application}: not an accepted application, but a service has seen it"

    def repeated(self, *, after_kill: bool) -> int:
        """Count the steps that came again after their effect, because of a kill or for silence."""
        by_key: defaultdict[str, list[Entry]] = defaultdict(list)
        for entry in self.requests:
            by_key[entry.key].append(entry)
        again = 0
        for entries in by_key.values():
            for effect, later in pairwise(entries):
                if effect.outcome is Outcome.DONE:
                    again += self._was_killed_between(effect, later) is after_kill
        return again

    def _was_killed_between(self, effect: Entry, later: Entry) -> bool:
        return effect.answered and any(
            effect.time - UNDER_WAY_US < restart < later.time for restart in self.restarts
        )


def main(path: Path) -> int:
    """Print the proof; return 0 if it holds, 1 if not."""
    proof = prove(Folder(path))
    print(*proof.lines(), sep="\n")
    return 0 if proof.holds else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
