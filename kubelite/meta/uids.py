"""UIDs of objects: random UUIDs of version 4, made from randomness that is fetched for many at once.

An object's UID must be unique, not secret; asking the system for each costs several times what the rest of making one does.
"""

import os

_BYTES = 16
_BATCH = 256
_left: list[str] = []


def make() -> str:
    """A UID that no object has had."""
    if not _left:
        random = os.urandom(_BYTES * _BATCH).hex()
        _left.extend(random[i : i + 2 * _BYTES] for i in range(0, len(random), 2 * _BYTES))
    digits = _left.pop()
    # the version's digit and the variant's bits are fixed
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"
