"""What a control plane's controllers must never do again."""

import ast
from pathlib import Path

import kubelite.controllers

OUTSIDE = {"aiohttp", "http", "httpx", "requests", "socket", "urllib", "subprocess"}


def test_cve_2025_13281_controllers_fetch_no_url_that_a_user_chose() -> None:
    """They cannot: nothing in the package can open a connection, all they have is the client that they are given."""
    for file in Path(kubelite.controllers.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            assert not {name.partition(".")[0] for name in names} & OUTSIDE, file.name
