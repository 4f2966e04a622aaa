"""The minimum cost of a round: the same files over plain HTTP on loopback.

There is no sandbox, no control plane, no check and no digest. All clients get the model and put it
back at the same time. The server averages the files and saves the mean.
"""

import asyncio
import multiprocessing
import socket
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import httpx
import torch
import uvicorn
from safetensors.torch import load_file, save_file
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

_CHUNK = 1 << 20
_TIMEOUT_S = 300.0
_START_S = 60.0


def _serve(listener: socket.socket, model: Path, folder: Path) -> None:
    torch.set_num_threads(multiprocessing.cpu_count())

    async def get(_: Request) -> Response:
        return FileResponse(model)

    async def put(request: Request) -> Response:
        with (folder / f"{request.path_params['client']}.safetensors").open("wb") as file:
            async for chunk in request.stream():
                file.write(chunk)
        return JSONResponse({})

    def average() -> None:
        paths = sorted(folder.glob("*.safetensors"))
        total: dict[str, torch.Tensor] = {}
        for path in paths:
            for name, tensor in load_file(path).items():
                total[name] = total[name].add_(tensor) if name in total else tensor
        save_file({name: tensor.div_(len(paths)) for name, tensor in total.items()}, folder / "mean")

    async def finish(_: Request) -> Response:
        await asyncio.to_thread(average)
        return JSONResponse({})

    routes = [
        Route("/model", get),
        Route("/updates/{client:int}", put, methods=["PUT"]),
        Route("/average", finish, methods=["POST"]),
    ]
    config = uvicorn.Config(Starlette(routes=routes), log_config=None, access_log=False, lifespan="off")
    asyncio.run(uvicorn.Server(config).serve(sockets=[listener]))


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


async def _round(url: str, clients: int, model: Path, folder: Path) -> float:
    async def client(number: int) -> None:
        async with httpx.AsyncClient(base_url=url, timeout=_TIMEOUT_S, verify=False, trust_env=False) as http:
            copy = folder / f"pulled-{number}"
            with copy.open("wb") as file:
                async with http.stream("GET", "/model") as answer:
                    answer.raise_for_status()
                    async for chunk in answer.aiter_bytes(_CHUNK):
                        file.write(chunk)
            headers = {"Content-Length": str(copy.stat().st_size)}
            (await http.put(f"/updates/{number}", content=_chunks(copy), headers=headers)).raise_for_status()

    started = time.perf_counter()
    await asyncio.gather(*(client(number) for number in range(clients)))
    async with httpx.AsyncClient(base_url=url, timeout=_TIMEOUT_S, verify=False, trust_env=False) as http:
        (await http.post("/average")).raise_for_status()
    return time.perf_counter() - started


async def _ready(url: str) -> None:
    end = time.monotonic() + _START_S
    async with httpx.AsyncClient(base_url=url, timeout=5, trust_env=False) as http:
        while time.monotonic() < end:
            with suppress(httpx.HTTPError):
                await http.get("/nothing")
                return
            await asyncio.sleep(0.1)
    raise TimeoutError("the plain server does not answer")


async def _rounds(url: str, clients: int, rounds: int, model: Path, folder: Path) -> list[float]:
    await _ready(url)
    await _round(url, clients, model, folder)
    return [await _round(url, clients, model, folder) for _ in range(rounds)]


def seconds(clients: int, rounds: int, model: Path, folder: Path) -> list[float]:
    """Return the seconds of each round, after one warm-up round.

    The clients' files stay in `folder`.
    """
    folder.mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = multiprocessing.get_context("spawn").Process(target=_serve, args=(listener, model, folder), daemon=True)
        server.start()
        try:
            return asyncio.run(_rounds(f"http://127.0.0.1:{listener.getsockname()[1]}", clients, rounds, model, folder))
        finally:
            server.kill()
            server.join()
