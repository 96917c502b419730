"""Image references as users write them, and in full: `busybox` is `docker.io/library/busybox:latest`.

Source: distribution/reference, the grammar of names, tags and digests.
"""

import re
from dataclasses import dataclass

from runtimes.interface import InvalidImageName

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_HOST = (
    r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
)
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_DOMAIN = re.compile(_HOST)
_TAG = re.compile(r"[\w][\w.-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}")


@dataclass(frozen=True, slots=True)
class Reference:
    """A parsed reference: `name` with its registry, and a tag, a digest or both."""

    name: str
    tag: str
    digest: str

    def __str__(self) -> str:
        return self.name + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def parse(text: str) -> Reference:
    """The full reference; a name without tag and digest gets `latest`.

    Raises: InvalidImageName.
    """
    invalid = InvalidImageName(f'couldn\'t parse image name "{text}": invalid reference format')
    rest, _, digest = text.partition("@")
    if "@" in text and not _DIGEST.fullmatch(digest):
        raise invalid
    head, slash, last = rest.rpartition("/")
    last, _, tag = last.partition(":")
    name = head + slash + last
    if (":" in rest.rpartition("/")[2] and not _TAG.fullmatch(tag)) or not name:
        raise invalid
    domain, slash, path = name.partition("/")
    if not slash or not ("." in domain or ":" in domain or domain == "localhost" or domain.lower() != domain):
        domain, path = "docker.io", name
    if domain in ("docker.io", "index.docker.io"):
        domain = "docker.io"
        path = path if "/" in path else f"library/{path}"
    if _PATH.fullmatch(path.lower()) and path.lower() != path:
        raise InvalidImageName(f"{invalid}: repository name ({path}) must be lowercase")
    if not _DOMAIN.fullmatch(domain) or not _PATH.fullmatch(path) or len(f"{domain}/{path}") > 255:
        raise invalid
    if not tag and not digest:
        tag = "latest"
    return Reference(f"{domain}/{path}", tag, digest)


def full(text: str) -> str:
    """`parse` as text."""
    return str(parse(text))
