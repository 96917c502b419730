"""nftables, by the `nft` command: a batch is one transaction of the kernel, applied whole or not at all.

The command rather than the library in this process: it costs some milliseconds a batch, off this process's time, and what goes
wrong in it stays out of here.
"""

import asyncio
import hashlib
import os
import shutil

_PATH = "/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin"
_TIMEOUT_S = 60.0


class NftFault(Exception):
    """The kernel or nft refused a batch; nothing of it was applied. The message is nft's."""


def program() -> str | None:
    """Where nft is, None where it isn't."""
    return shutil.which("nft", path=f"{os.environ.get('PATH', '')}:{_PATH}")


def table_name(purpose: str, node_name: str) -> str:
    """A table of a node's own: two nodes may share a machine."""
    return f"kubelite-{purpose}-{short_hash(node_name)}"


def short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


async def apply(batch: str) -> None:
    """Applies commands of nft's language.

    Raises: NftFault.
    """
    status, _, errors = await run("nft", "-f", "-", stdin=batch)
    if status != 0:
        raise NftFault(errors.strip()[:2000] or f"nft ended with {status}")


async def exists(table: str) -> bool:
    return (await run("nft", "list", "chains", "inet"))[1].find(f"table inet {table} ") >= 0


async def run(*command: str, stdin: str = "") -> tuple[int, str, str]:
    """A command's exit code, output and errors. One that isn't installed ends with 127, as in a shell."""
    environment = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:{_PATH}", "LC_ALL": "C"}
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE if stdin else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
        )
    except FileNotFoundError:
        return 127, "", f"{command[0]} is not installed"
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            output, errors = await process.communicate(stdin.encode() if stdin else None)
    except BaseException:
        if process.returncode is None:
            process.kill()
            await process.wait()
        raise
    return process.returncode or 0, output.decode(errors="replace"), errors.decode(errors="replace")
