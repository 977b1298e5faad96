"""The duty that wakes what is unfinished and does not sleep once the store is open."""

from __future__ import annotations

from typing import TYPE_CHECKING

from beamflow import log
from beamflow.engine.parking import MENDED_BY_A_RESTART, parked_error
from beamflow.model.status import ACTIVE_STATES, WorkflowState
from beamflow.stores.base import DeadLetterQuery

if TYPE_CHECKING:
    from beamflow.engine.services import Services
    from beamflow.engine.workflows import Workflows

__all__ = ["recover"]

_AT_A_TIME = 500


async def recover(services: Services, workflows: Workflows) -> None:
    """Wake what has not ended and does not sleep, and of what was parked that whose cause may be mended.

    The oldest come first, and no more at a time than there are places in memory.

    A workflow that was parked because of its code or its log is looked at again at each start; if
    the cause is still there it stays parked, with the one dead letter it has. Whoever asks for one of
    them before does not wait for the others: see `Workflows.goes_on`.
    """
    services.recovering = True
    woken = 0
    for state in ACTIVE_STATES:
        after = None
        while True:
            page = await services.store.awake(state, services.now(), after=after, limit=_AT_A_TIME)
            for summary in page.items:
                _say_if_full(services)
                woken += await workflows.wake(summary.id, summary)
            after = page.cursor
            if after is None:
                break
    after = None
    while True:
        letters = await services.store.dead_letters(DeadLetterQuery(limit=_AT_A_TIME, after=after))
        for letter in letters.items:
            if letter.reason in MENDED_BY_A_RESTART:
                _say_if_full(services)
                await workflows.unpark_in_turn(letter.workflow_id)
        after = letters.cursor
        if after is None:
            break
    services.recovering = False
    await _tell_waiters(services)
    log.info("workflows_recovered", count=woken)
    if services.quarantine is not None:
        services.quarantine.complete()


def _say_if_full(services: Services) -> None:
    """Let the suspects have their turns, where whoever comes next waits for places that they have."""
    if services.quarantine is not None and services.awake.is_full:
        services.quarantine.fill()


async def _tell_waiters(services: Services) -> None:
    """Tell those who have waited since before the store failed of what ended in that moment."""
    for workflow_id in services.awaited:
        summary = await services.store.summary(workflow_id)
        if summary is None or workflow_id in services.actors:
            continue
        if summary.state is WorkflowState.PARKED:
            services.ended(workflow_id, await parked_error(services, workflow_id))
        elif not summary.state.is_open:
            services.ended(workflow_id, (await services.store.read(workflow_id))[-1].event)
    services.look_again()
