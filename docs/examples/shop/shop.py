"""A web shop whose orders are workflows, in its own event loop: ``uvicorn shop:app``."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from beamflow import BeamflowError, Engine, query, signal, step, until, workflow


@step
async def reserve(item: str) -> str:
    return f"one {item}, reserved"


@workflow
class Order:
    stage = "new"
    paid = False

    async def run(self, item: str) -> str:
        await reserve(item)
        self.stage = "waiting for the money"
        async with asyncio.timeout(3 * 24 * 3600):
            await until(lambda: self.paid)
        self.stage = "done"
        return f"{item} is on its way"

    @signal
    def pay(self) -> None:
        self.paid = True

    @query
    def where(self) -> str:
        return self.stage


async def place(request: Request) -> JSONResponse:
    order = await request.json()
    await request.state.engine.start(Order, order["item"], id=request.path_params["id"])
    return JSONResponse({"id": request.path_params["id"]}, status_code=201)


async def show(request: Request) -> JSONResponse:
    handle = request.state.engine.handle(request.path_params["id"])
    status = await handle.status()
    return JSONResponse({"state": status.state.value, "stage": await handle.query(Order.where)})


async def pay(request: Request) -> JSONResponse:
    handle = request.state.engine.handle(request.path_params["id"])
    await handle.signal(Order.pay)
    return JSONResponse({"message": await handle.result()})


async def cancel(request: Request) -> JSONResponse:
    await request.state.engine.handle(request.path_params["id"]).cancel("by the customer")
    return JSONResponse({}, status_code=202)


async def refuse(_request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": str(error)}, 404 if isinstance(error, LookupError) else 409)


@asynccontextmanager
async def lifespan(_app: Starlette) -> AsyncIterator[dict[str, Engine]]:
    async with Engine("sqlite:///shop.db", workflows=[Order], lease_wait=10) as engine:
        yield {"engine": engine}


app = Starlette(
    routes=[
        Route("/orders/{id}", place, methods=["PUT"]),
        Route("/orders/{id}", show),
        Route("/orders/{id}/pay", pay, methods=["POST"]),
        Route("/orders/{id}", cancel, methods=["DELETE"]),
    ],
    exception_handlers={BeamflowError: refuse},
    lifespan=lifespan,
)
