"""What admission asks of other parts without importing them."""

from typing import Protocol

from kubelite.meta.users import User


class Permits(Protocol):
    """Whether a user may do something; the composition root makes it from the authorizer."""

    def __call__(
        self, user: User, verb: str, group: str, resource: str, subresource: str, namespace: str, name: str, /
    ) -> bool: ...
