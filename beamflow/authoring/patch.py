"""Changing the code of workflows that are open."""

from __future__ import annotations

from beamflow.authoring.runtime import required_runtime
from beamflow.model.ids import checked_name

__all__ = ["patched"]


def patched(name: str) -> bool:
    """Tell whether this workflow takes the new branch of a change.

    ::

        if patched("pay-by-invoice"):
            await send_invoice(order)
        else:
            await charge_card(order)

    True for a workflow that comes here with the new code for the first time; that is recorded, and
    it is True for that workflow for ever. False for one that has been here, or waits here, with the
    code of before; it is False for that one for ever. A workflow that was cut off before anything
    but its start was recorded counts as one that has been here. Does not suspend.

    Take the old branch away once no open workflow lacks the patch (``beamflow check`` names them).
    The question may go with it: a marker in the log that no code asks for is passed over.

    Args:
        name: of the change, to be used for no other change of this workflow.

    Raises:
        DefinitionError: the name is no printable text, or this is no workflow.
    """
    return required_runtime("patched").patched(checked_name(name, "patch"))
