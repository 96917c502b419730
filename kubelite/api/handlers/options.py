"""The query options of each verb, read as Kubernetes reads them, with its errors.

Source: apimachinery meta/v1 types and validation (ValidateCreateOptions and its neighbours), v0.34.
"""

import re
from typing import Any, cast

from kubelite.api.requests import Query, Request, is_true
from kubelite.meta.errors import BadRequest, Cause, Invalid, forbidden, format_value, invalid, not_supported, required, too_long
from kubelite.meta.types import Obj
from kubelite.registry.contract import DeleteOptions, ListOptions, WriteOptions

_FIELD_VALIDATION = ("Ignore", "Strict", "Warn")
_PROPAGATION = ("Background", "Foreground", "Orphan")
_FIELD_MANAGER_LIMIT = 128
_INTEGER = re.compile("[+-]?[0-9]+")


def first(query: Query, name: str) -> str:
    values = query.get(name)
    return values[0] if values else ""


def integer(query: Query, name: str) -> int | None:
    if name not in query:
        return None
    text = query[name][0]
    if not _INTEGER.fullmatch(text):
        raise BadRequest(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    value = int(text) if len(text) < 40 else 2**63
    if not -(2**63) <= value < 2**63:
        raise BadRequest(f'strconv.ParseInt: parsing "{text}": value out of range')
    return value


def field_manager_of(user_agent: str) -> str:
    """Who writes, when the request doesn't say: the user agent up to its first slash."""
    return "".join(c for c in user_agent.partition("/")[0][:_FIELD_MANAGER_LIMIT] if c.isprintable()) or "unknown"


def write_options(request: Request, options_kind: str, *, applies: bool = False) -> WriteOptions:
    """For create, update and patch. `options_kind` names the options in errors: CreateOptions, ..."""
    query = request.query
    if not query and not applies:
        return WriteOptions(
            user=request.user,
            field_manager=field_manager_of(request.headers.get("User-Agent", "")),
            warnings=request.warnings,
        )
    causes: list[Cause] = []
    manager = first(query, "fieldManager")
    if len(manager.encode()) > _FIELD_MANAGER_LIMIT:
        causes.append(too_long("fieldManager", _FIELD_MANAGER_LIMIT))
    unprintable = [(index, c) for index, c in enumerate(manager) if not c.isprintable()]
    if unprintable:
        index, c = unprintable[0]
        causes.append(invalid("fieldManager", manager, f"invalid character U+{ord(c):04X} (at position {index})"))
    if applies and not manager:
        causes.append(required("fieldManager", "is required for apply patch"))
    force = options_kind == "PatchOptions" and is_true(query.get("force"))
    if force and not applies:
        causes.append(forbidden("force", "may not be specified for non-apply patch"))
    dry_run = _dry_run(query.get("dryRun", ()), causes)
    validation = first(query, "fieldValidation") or "Warn"
    if validation not in _FIELD_VALIDATION:
        causes.append(not_supported("fieldValidation", validation, ("", *_FIELD_VALIDATION)))
    if causes:
        raise Invalid.of("meta.k8s.io", options_kind, "", causes)
    return WriteOptions(
        user=request.user,
        dry_run=dry_run,
        field_manager=manager or field_manager_of(request.headers.get("User-Agent", "")),
        field_validation=cast(Any, validation),
        force=force,
        warnings=request.warnings,
    )


def _dry_run(values: "list[str] | tuple[str, ...]", causes: list[Cause]) -> bool:
    if any(value != "All" for value in values):
        text = f'Unsupported value: {format_value(list(values))}: supported values: "All"'
        causes.append(Cause("dryRun", "FieldValueNotSupported", text))
    return bool(values)


def delete_options(request: Request, body: Obj | None) -> tuple[DeleteOptions, WriteOptions]:
    """From the body where there is one, else from the query.

    `ignoreStoreReadErrorWithClusterBreakingPotential` says nothing, as in Kubernetes while its feature gate is off.
    """
    causes: list[Cause] = []
    query = request.query
    if body is not None:
        preconditions = body.get("preconditions") or {}
        grace = body.get("gracePeriodSeconds")
        policy = body.get("propagationPolicy")
        orphan = body.get("orphanDependents")
        dry_run = _dry_run(body.get("dryRun") or (), causes)
        uid, revision = preconditions.get("uid") or "", preconditions.get("resourceVersion") or ""
    else:
        grace = integer(query, "gracePeriodSeconds")
        policy = first(query, "propagationPolicy") if "propagationPolicy" in query else None
        orphan = is_true(query["orphanDependents"]) if "orphanDependents" in query else None
        dry_run = _dry_run(query.get("dryRun", ()), causes)
        uid, revision = first(query, "uid"), first(query, "resourceVersion") if request.info.name else ""
    if policy is not None and policy not in _PROPAGATION:
        causes.append(not_supported("propagationPolicy", policy, (*_PROPAGATION, "nil")))
    if policy is not None and orphan is not None:
        causes.append(invalid("propagationPolicy", policy, "orphanDependents and deletionPropagation cannot be both set"))
    if causes:
        raise Invalid.of("meta.k8s.io", "DeleteOptions", "", causes)
    if orphan is not None:
        policy = "Orphan" if orphan else "Background"
    delete = DeleteOptions(
        grace_period_s=grace,
        propagation_policy=cast(Any, policy),
        precondition_uid=uid,
        precondition_resource_version=revision,
    )
    return delete, WriteOptions(user=request.user, dry_run=dry_run, warnings=request.warnings)


_EVERYTHING = ListOptions()


def list_options(query: Query) -> ListOptions:
    if not query:
        return _EVERYTHING
    versions = query.get("resourceVersion")
    initial = query.get("sendInitialEvents")
    timeout = integer(query, "timeoutSeconds")
    return ListOptions(
        label_selector=first(query, "labelSelector"),
        field_selector=first(query, "fieldSelector"),
        limit=max(0, integer(query, "limit") or 0),
        continue_token=first(query, "continue"),
        resource_version=versions[0] if versions else None,
        resource_version_match=cast(Any, first(query, "resourceVersionMatch")),
        allow_watch_bookmarks=is_true(query.get("allowWatchBookmarks")),
        send_initial_events=is_true(initial) if initial else None,
        timeout_s=float(timeout) if timeout is not None else None,
    )
