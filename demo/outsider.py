"""Somebody on the host, who calls the relying party with whatever headers he has come by."""

import asyncio
import ssl
from typing import Any

import aiohttp

from demo.world import World


def present(
    world: World, headers: dict[str, str], path: str = "/post"
) -> tuple[int, dict[str, Any]]:
    """Call the relying party from the host."""

    async def call() -> tuple[int, dict[str, Any]]:
        context = ssl.create_default_context(cafile=world.config.parent / "ca.pem")
        url = f"https://127.0.0.1:{world.ledger_port}{path}"
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, headers=headers, ssl=context) as response,
        ):
            return response.status, await response.json()

    return asyncio.run(call())
