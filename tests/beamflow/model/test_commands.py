"""Commands show themselves as the author wrote them."""

from __future__ import annotations

from beamflow.model.commands import RunStep, StartTimer


def test_commands_read_like_code() -> None:
    """Messages about replay quote them."""
    assert str(RunStep(op=3, name="pay", digest="ab")) == "step 'pay' (op 3, arguments ab)"
    assert str(StartTimer(op=4, due=1)) == "timer (op 4)"
