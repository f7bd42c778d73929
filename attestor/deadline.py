"""How long a process waits for what it asked."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from attestor.reasons import Local, refuse


@asynccontextmanager
async def deadline(seconds: float) -> AsyncIterator[None]:
    """Cancel the block, and raise Refused, where it takes longer."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        expected = f"within {seconds:.0f} s"
        raise refuse(Local.TIMEOUT, "the answer", expected=expected) from error
