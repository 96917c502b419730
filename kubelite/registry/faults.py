"""Store errors as an API client sees them: the one translation.

Source: apiserver pkg/registry/generic/registry and pkg/storage/errors, v0.34.
"""

from kubelite.meta import errors
from kubelite.meta.errors import ApiError, Cause
from kubelite.meta.types import Obj
from kubelite.schema.kinds import Kind
from kubelite.store import contract as store

MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"


def of_write(fault: store.StoreError, kind: Kind, name: str, verb: str) -> ApiError:
    """The error of a failed write of one object."""
    if isinstance(fault, store.KeyExists):
        return errors.AlreadyExists.of(kind.group, kind.plural, name)
    if isinstance(fault, store.KeyNotFound):
        return errors.NotFound.of(kind.group, kind.plural, name)
    if isinstance(fault, store.Conflict):
        return errors.Conflict.of(kind.group, kind.plural, name, MODIFIED)
    return unavailable(fault, kind, verb)


def of_read(fault: store.StoreError, kind: Kind, verb: str) -> ApiError:
    """The error of a failed get, list or watch."""
    if isinstance(fault, store.Compacted) and verb == "list":
        return errors.Expired("The resourceVersion for the provided list is too old.")
    if isinstance(fault, store.Compacted):
        return errors.Expired(f"too old resource version: {fault.asked} ({fault.oldest})")
    if isinstance(fault, store.FutureRevision):
        return too_large(fault.asked, fault.newest)
    return unavailable(fault, kind, verb)


def unavailable(fault: store.StoreError, kind: Kind, verb: str) -> ApiError:
    """The store could not do it now: the client may try again."""
    return errors.ServerTimeout(
        f"The {verb} operation against {kind.group_resource} could not be completed at this time, please try again: {fault}",
        group=kind.group,
        kind=kind.plural,
        retry_after_s=2,
    )


def too_large(asked: int, newest: int) -> ApiError:
    """A read asked for a revision that is not there and did not come in time."""
    return errors.Timeout(
        f"Timeout: Too large resource version: {asked}, current: {newest}",
        causes=[Cause("", "ResourceVersionTooLarge", "Too large resource version")],
        retry_after_s=1,
    )


class ContinueExpired(errors.Expired):
    """A continue token whose snapshot is compacted; the Status carries a token that goes on without consistency."""

    def __init__(self, token: str) -> None:
        super().__init__(
            "The provided continue parameter is too old to display a consistent list result. You can start a new list "
            "without the continue parameter, or use the continue token in this response to retrieve the remainder of the "
            "results. Continuing with the provided token results in an inconsistent list - objects that were created, "
            "modified, or deleted between the time the first chunk was returned and now may show up in the list."
        )
        self.token = token

    def status(self) -> Obj:
        status = super().status()
        status["metadata"] = {"continue": self.token}
        return status
