"""Opens copies of a store, and dies by SIGKILL behind the first statement, the second, and so on.

``python kill_upgrade.py FILE`` makes ``1.db``, ``2.db`` ... beside it; the last one was not killed.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

from beamflow.stores.sqlite import SQLiteStore, file, store


def upgrade(path: Path, number: int) -> None:
    """Open and close, or die on the way."""
    connect, left = file.connect, number

    async def counted(*arguments: Any, **options: Any) -> Any:
        connection: Any = await connect(*arguments, **options)
        execute = connection.execute_fetchall

        async def execute_or_die(sql: str, parameters: Any = None) -> Any:
            nonlocal left
            left -= 1
            rows = await execute(sql, parameters)
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return rows

        connection.execute_fetchall = execute_or_die
        return connection

    store.connect = counted  # type: ignore[assignment]

    async def use() -> None:
        opened = SQLiteStore(path, clock=lambda: 0)
        await opened.open()
        await opened.close()

    asyncio.run(use())


def main(original: Path) -> None:
    number, killed = 0, True
    while killed:
        number += 1
        victim = Path(shutil.copy(original, original.with_name(f"{number}.db")))
        child = os.fork()
        if not child:
            upgrade(victim, number)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status)
        if not killed and os.WEXITSTATUS(status):
            sys.exit(f"statement {number}: {status}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
