"""An HTTP service: asked by POST, it records, misbehaves, de-duplicates and decides."""

from __future__ import annotations

import socket
from collections import Counter
from typing import TYPE_CHECKING, Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from services.ledger import Outcome
from services.mischief import Fate

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from services.ledger import Ledger
    from services.mischief import Mischief

    Body = dict[str, Any]
    Decide = Callable[[Body, Mischief], Body]

__all__ = ["Refused", "serve"]


class Refused(Exception):  # noqa: N818 (a decision, not a defect)
    """What a service raises when it turns a request down for good."""


def serve(action: str, decide: Decide, ledger: Ledger, mischief: Mischief) -> None:
    """Answer ``POST /`` on a free port, whose address is printed first, until the process ends.

    The body is a JSON object that names its ``application``; the header ``Idempotency-Key`` must be
    there. What ``decide`` returns is answered with 200 and remembered, `Refused` is answered with
    422, and bad luck with 500 or not at all.
    """
    answers: dict[str, Body] = {}
    attempts = Counter[str]()

    async def post(request: Request) -> Response:
        key = request.headers["idempotency-key"]
        try:
            body: Body = await request.json()
        except ClientDisconnect:  # killed in the middle of a sentence
            return Response(status_code=400)
        attempts[key] += 1
        fate = mischief.fate(key, attempts[key])

        def record(outcome: Outcome, *, answered: bool = True) -> None:
            ledger.record(key, body["application"], action, outcome, answered=answered)

        if fate is Fate.FAILS:
            record(Outcome.FAILED)
            return Response("something went wrong", status_code=500)
        if fate is Fate.HANGS:
            record(Outcome.HUNG, answered=False)
            return await never(request)
        if key in answers:
            record(Outcome.DUPLICATE)
            return JSONResponse(answers[key])
        try:
            answers[key] = decide(body, mischief)
        except Refused as refusal:
            record(Outcome.REFUSED)
            return JSONResponse({"reason": str(refusal)}, status_code=422)
        record(Outcome.DONE, answered=fate is Fate.WELL)
        return JSONResponse(answers[key]) if fate is Fate.WELL else await never(request)

    app = Starlette(routes=[Route("/", post, methods=["POST"])])
    listener = socket.create_server(("127.0.0.1", 0), backlog=1_024)
    print(f"http://127.0.0.1:{listener.getsockname()[1]}/", flush=True)
    config = uvicorn.Config(app, access_log=False, log_level="error", lifespan="off")
    uvicorn.Server(config).run(sockets=[listener])


async def never(request: Request) -> Response:
    """Hold the line until the caller hangs up."""
    await request.receive()
    return Response(status_code=504)
