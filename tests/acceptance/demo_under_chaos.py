"""The onboarding of the demo in one process and in virtual time, under chaos: ``SEED COUNT FOLDER``.

The workflow, the services' decisions, their bad luck and their records are the demo's own, and so is
the proof. What lies between them (HTTP, SMTP) is left out, for virtual time knows no network.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

DEMO = Path(__file__).resolve().parents[2] / "docs" / "examples" / "onboarding"
sys.path.insert(0, str(DEMO))


class PaymentDeclined(Exception):  # noqa: N818 - as in partners
    """As in partners."""


class MailboxClosed(Exception):  # noqa: N818 - as in partners
    """As in partners."""


async def ask(*args: Any, **options: Any) -> object:
    """As in partners."""
    return await Partners.at_work.ask(*args, **options)


async def send(*args: Any, **options: Any) -> None:
    """As in partners."""
    await Partners.at_work.send(*args, **options)


# In place of the module that speaks HTTP and SMTP; before anything of the demo imports that.
sys.modules["partners"] = PARTNERS = ModuleType("partners")
vars(PARTNERS).update(
    PaymentDeclined=PaymentDeclined,
    MailboxClosed=MailboxClosed,
    ask=ask,
    send=send,
    open_policy_book=lambda: Partners.at_work.book,
)

from application import Application, read_applications  # noqa: E402 - found beside the demo
from beamflow import DeadLetterError, WorkflowFailedError, WorkflowParkedError  # noqa: E402
from beamflow.testing.chaos_engine import ChaosEngine  # noqa: E402
from beamflow.testing.faulty_store import EngineFault  # noqa: E402
from demo import take_in  # noqa: E402
from folder import Folder  # noqa: E402
from proof import prove  # noqa: E402
from services import billing, credit, identity, ledger, mail, policies  # noqa: E402
from services.endpoint import Refused  # noqa: E402
from services.mischief import Fate, Mischief  # noqa: E402
from supervision.chaos import Chaos  # noqa: E402
from supervision.faults import MESSAGE_FAULTS, Fault, FaultPlan, Profile  # noqa: E402
from supervision.virtual import VirtualClock, VirtualLoop  # noqa: E402
from told import Told  # noqa: E402
from workflow import onboard  # noqa: E402

if TYPE_CHECKING:
    from beamflow.testing.chaos_engine import ChaosHandle

# The proof compares the services' clocks with the engine's, so nobody sets that one.
FAULTS = {*Fault, *EngineFault} - MESSAGE_FAULTS - {EngineFault.CLOCK_JUMP}
SERVICES = {"identity": identity, "credit": credit, "billing": billing}
OPEN_AT_ONCE = 30


class Partners:
    """What ``partners`` does, without the network."""

    at_work: ClassVar[Partners]

    def __init__(self, folder: Folder, seed: int) -> None:
        self.mischief = Mischief(seed)
        self.ledgers = {name: ledger.Ledger(folder.ledger(name)) for name in (*SERVICES, "mail")}
        self.book = policies.PolicyBook(folder.policies)
        self.office = mail.PostOffice(self.ledgers["mail"], self.mischief)
        self.answers: dict[str, Any] = {}
        self.attempts: Counter[str] = Counter()

    async def ask(
        self, service: str, question: dict[str, Any], answer: type, *, key: str
    ) -> object:
        """Answer as the endpoint of that service would; see services.endpoint."""
        self.attempts[key] += 1
        fate = self.mischief.fate(key, self.attempts[key])
        module = SERVICES[service]

        def record(outcome: ledger.Outcome, *, answered: bool = True) -> None:
            self.ledgers[service].record(
                key, question["application"], module.ACTION, outcome, answered=answered
            )

        await asyncio.sleep(0.01)
        if fate is Fate.FAILS:
            record(ledger.Outcome.FAILED)
            raise ConnectionError("something went wrong")
        if fate is Fate.HANGS:
            record(ledger.Outcome.HUNG, answered=False)
            await asyncio.Event().wait()
        if key in self.answers:
            record(ledger.Outcome.DUPLICATE)
        else:
            try:
                decided = module.decide(msgspec.to_builtins(question), self.mischief)
            except Refused as refusal:
                record(ledger.Outcome.REFUSED)
                raise PaymentDeclined(str(refusal)) from refusal
            self.answers[key] = decided
            record(ledger.Outcome.DONE, answered=fate is Fate.WELL)
            if fate is not Fate.WELL:
                await asyncio.Event().wait()
        await asyncio.sleep(0.01)
        return msgspec.convert(self.answers[key], answer)

    async def send(
        self, purpose: str, to: Application, *, subject: str, text: str, key: str
    ) -> None:
        """Deliver as the post office would."""
        await asyncio.sleep(0.01)
        outcome, answer = self.office._deliver(key, to.email)
        self.ledgers["mail"].record(key, to.id, purpose, outcome)
        await asyncio.sleep(0.01)
        if answer.startswith("550"):
            raise MailboxClosed(answer)
        if not answer.startswith("250"):
            raise ConnectionError(answer)


class Run:
    """One seed."""

    def __init__(self, seed: int, count: int, folder: Folder) -> None:
        self.folder = folder
        self.chaos = Chaos(FaultPlan(seed, Profile.MODERATE.rate, FAULTS))
        self.clock = VirtualClock()
        take_in(folder, count)
        Partners.at_work = Partners(folder, seed)

    async def play(self) -> None:
        """See every application to its end, under chaos."""
        loop = asyncio.get_running_loop()
        policies.now = ledger.now = lambda: int((1_700_000_000 + loop.time()) * 1e6)
        gate = asyncio.Semaphore(OPEN_AT_ONCE)
        async with ChaosEngine(self.chaos, workflows=[onboard], clock=self.clock) as engine:
            async with asyncio.TaskGroup() as visitors:
                for row in read_applications(self.folder.applications):
                    if isinstance(row, Application):
                        await gate.acquire()
                        visitor = visitors.create_task(self.see_through(engine, row))
                        visitor.add_done_callback(lambda _: gate.release())
            self.chaos.calm()
            await engine.endings()
            await self.archive(engine)
            self.write(self.folder.restarts, [int(self.clock.now() * 1e6)] * (engine.lives - 1))
            print(f"lives: {engine.lives}")

    async def see_through(self, engine: ChaosEngine, row: Application) -> None:
        """As intake does; and as somebody would who watches the dead letters, let the parked go on."""
        handle = await engine.start(onboard, row, id=row.id)
        self.tell(Told(application=row.id))
        while True:
            try:
                outcome = await handle.result()
            except WorkflowFailedError:
                self.tell(Told(application=row.id, ended="failed"))
                return
            except WorkflowParkedError:
                await asyncio.sleep(60.0)
                await self.retry(engine, handle)
            else:
                number = getattr(outcome, "number", None)
                ended = f"policy {number}" if number else "declined"
                self.tell(Told(application=row.id, ended=ended))
                return

    async def retry(self, engine: ChaosEngine, handle: ChaosHandle[object]) -> None:
        """Let a workflow go on whose actor was crashed too often on purpose."""
        with suppress(DeadLetterError):  # retried before, by a life that did not live to tell
            await engine.ask(lambda engine: engine.dead_letters.retry(handle.id))

    async def archive(self, engine: ChaosEngine) -> None:
        """Write down what beamflow says."""
        letters = await engine.ask(lambda engine: engine.dead_letters.list())
        self.write(self.folder.dead_letters, letters)
        history = [
            recorded
            for row in read_applications(self.folder.applications)
            if isinstance(row, Application)
            for recorded in await engine.handle(row.id).history()
        ]
        self.write(self.folder.history, history)

    def tell(self, told: Told) -> None:
        with self.folder.told.open("ab") as file:
            file.write(msgspec.json.encode(told) + b"\n")

    def write(self, path: Path, rows: list[Any]) -> None:
        path.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))


def main(seed: int, count: int, folder: Folder) -> int:
    """Run one seed; 0 if the proof holds."""
    run = Run(seed, count, folder)
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run.play())
    run.chaos.close()
    reached = run.chaos.reached
    (folder.path / "faults.txt").write_text("\n".join(map(str, run.chaos.log)))
    print("reached:", *(f"{fault} {number}" for fault, number in sorted(reached.items())))
    proof = prove(folder)
    print(*proof.lines(), sep="\n")
    print("endings:", *(f"{ending} {number}" for ending, number in sorted(proof.endings.items())))
    return 0 if proof.holds else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]), Folder(Path(sys.argv[3]))))
