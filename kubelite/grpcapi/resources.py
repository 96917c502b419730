"""The Resources service: every verb of any kind, with the HTTP API's authentication, authorization and admission.

Objects go out as the bytes that the store keeps; nothing is parsed that is only passed on.
"""

import contextlib
from collections.abc import AsyncIterator

import orjson

from kubelite.auth.authorizers import require
from kubelite.auth.contract import Access, Authenticator, Authorizer
from kubelite.grpcapi import faults, identity
from kubelite.grpcapi.faults import Context
from kubelite.meta.errors import BadRequest, NotFound
from kubelite.meta.types import Obj
from kubelite.meta.users import User
from kubelite.registry.contract import DeleteOptions, ListOptions, Patch, Target, WriteOptions
from kubelite.registry.registry import Registry
from kubelite.rpc import resources_pb2 as pb
from kubelite.rpc import resources_pb2_grpc
from kubelite.schema.kinds import Kind, Kinds

OBJECT_LIMIT_BYTES = 3 * 1024 * 1024
_FORMS = ("json", "merge", "strategic", "apply")
_VALIDATIONS = ("Ignore", "Warn", "Strict")
_POLICIES = ("Orphan", "Background", "Foreground")


class ResourcesService(resources_pb2_grpc.ResourcesServicer):
    """Wraps the registry."""

    def __init__(self, registry: Registry, kinds: Kinds, authenticator: Authenticator, authorizer: Authorizer) -> None:
        self._registry = registry
        self._kinds = kinds
        self._authenticator = authenticator
        self._authorizer = authorizer

    async def Get(self, request: pb.GetRequest, context: Context) -> pb.Object:
        try:
            target, _ = await self._target("get", request.resource, context)
            return pb.Object(json=(await self._registry.get(target)).value)
        except Exception as e:  # noqa: BLE001 - the outer filter of this service
            await faults.abort(context, e)

    async def List(self, request: pb.ListRequest, context: Context) -> pb.ObjectList:
        try:
            target, _ = await self._target("list", request.resource, context)
            match = request.resource_version_match
            if match not in ("", "Exact", "NotOlderThan"):
                raise BadRequest(f'resource_version_match "{match}": Exact, NotOlderThan or empty')
            options = ListOptions(
                label_selector=request.label_selector,
                field_selector=request.field_selector,
                limit=request.limit,
                continue_token=request.continue_token,
                resource_version=request.resource_version if request.HasField("resource_version") else None,
                resource_version_match=match,  # type: ignore[arg-type]  # checked above
            )
            page = await self._registry.list(target, options)
            answer = pb.ObjectList(
                items=[entry.value for entry in page.items],
                resource_version=str(page.revision),
                continue_token=page.continue_token,
            )
            if page.remaining is not None:
                answer.remaining_item_count = page.remaining
            return answer
        except Exception as e:  # noqa: BLE001 - the outer filter of this service
            await faults.abort(context, e)

    async def Watch(self, request: pb.WatchRequest, context: Context) -> AsyncIterator[pb.WatchEvent]:
        try:
            target, _ = await self._target("watch", request.resource, context)
            options = ListOptions(
                label_selector=request.label_selector,
                field_selector=request.field_selector,
                resource_version=request.resource_version,
                allow_watch_bookmarks=request.allow_bookmarks,
            )
            with contextlib.closing(self._registry.watch(target, options)) as watch:
                while True:
                    for item in await watch.next_batch():
                        yield pb.WatchEvent(type=item.type, object_json=item.entry.value)
        except Exception as e:  # noqa: BLE001 - the outer filter of this service
            await faults.abort(context, e)

    async def Create(self, request: pb.CreateRequest, context: Context) -> pb.Object:
        try:
            target, user = await self._target("create", request.resource, context)
            options = _options(user, request.options)
            entry = await self._registry.create(target, _parsed(request.object_json), options)
            return pb.Object(json=entry.value, warnings=options.warnings)
        except Exception as e:  # noqa: BLE001 - the outer filter of this service
            await faults.abort(context, e)

    async def Update(self, request: pb.UpdateRequest, context: Context) -> pb.Object:
        try:
            target, user = await self._target("update", request.resource, context)
            options = _options(user, request.options)
            entry, _ = await self._registry.update(target, _parsed(request.object_json), options)
            return pb.Object(json=entry.value, warnings=options.warnings)
        except Exception as e:  # noqa: BLE001 - the outer filter of this service
            await faults.abort(context, e)

    async def Patch(self, request: pb.PatchRequest, context: Context) -> pb.Object:
        try:
            target, user = await self._target("patch", request.resource, context)
            if request.form not in _FORMS:
                raise BadRequest(f'patch form "{request.form}": one of {", ".join(_FORMS)}')
            if len(request.patch_json) > OBJECT_LIMIT_BYTES:
                raise BadRequest(f"a patch may have {OBJECT_LIMIT_BYTES} bytes")
            options = _options(user, request.options)
            patch = Patch(request.form, request.patch_json)  # type: ignore[arg-type]  # checked above
            entry, _ = await self._registry.patch(target, patch, options)
            return pb.Object(json=entry.value, warnings=options.warnings)
        except Exception as e:  # noqa: BLE001 - the outer filter of this service
            await faults.abort(context, e)

    async def Delete(self, request: pb.DeleteRequest, context: Context) -> pb.Object:
        try:
            target, user = await self._target("delete", request.resource, context)
            policy = request.propagation_policy
            if policy and policy not in _POLICIES:
                raise BadRequest(f'propagation_policy "{policy}": one of {", ".join(_POLICIES)}')
            delete = DeleteOptions(
                grace_period_s=request.grace_period_seconds if request.HasField("grace_period_seconds") else None,
                propagation_policy=policy or None,  # type: ignore[arg-type]  # checked above
                precondition_uid=request.precondition_uid,
                precondition_resource_version=request.precondition_resource_version,
            )
            options = WriteOptions(user)
            entry, status, _ = await self._registry.delete(target, delete, options)
            return pb.Object(json=entry.value if entry is not None else orjson.dumps(status), warnings=options.warnings)
        except Exception as e:  # noqa: BLE001 - the outer filter of this service
            await faults.abort(context, e)

    async def _target(self, verb: str, resource: pb.Resource, context: Context) -> tuple[Target, User]:
        """What the call is about, once it is known that the caller may. Raises ApiError."""
        user = await identity.user_of(context, self._authenticator)
        kind = self._kind(resource)
        namespace = resource.namespace if kind.namespaced else ""
        if verb in ("get", "update", "patch", "delete") and not resource.name:
            raise BadRequest(f"{verb} of {resource.resource} needs a name")
        access = Access(user, verb, kind.group, kind.version, kind.plural, resource.subresource, namespace, resource.name)
        require(self._authorizer, access)
        if kind.namespaced and not namespace and verb not in ("list", "watch"):
            raise BadRequest(f"{verb} of {resource.resource} needs a namespace")
        return Target(kind, namespace, resource.name, resource.subresource), user

    def _kind(self, resource: pb.Resource) -> Kind:
        plural, _, group = resource.resource.partition(".")
        if resource.version:
            found = self._kinds.resource(group, resource.version, plural)
            if found is not None:
                return found
        else:
            with contextlib.suppress(KeyError):
                return self._kinds.preferred(resource.resource)
        raise NotFound("the server could not find the requested resource")


def _options(user: User, asked: pb.WriteOptions) -> WriteOptions:
    validation = asked.field_validation or "Warn"
    if validation not in _VALIDATIONS:
        raise BadRequest(f'field_validation "{validation}": one of {", ".join(_VALIDATIONS)}')
    return WriteOptions(
        user,
        dry_run=asked.dry_run,
        field_manager=asked.field_manager,
        field_validation=validation,  # type: ignore[arg-type]  # checked above
        force=asked.force,
    )


def _parsed(body: bytes) -> Obj:
    from kubelite.schema import decoding

    if len(body) > OBJECT_LIMIT_BYTES:
        raise BadRequest(f"an object may have {OBJECT_LIMIT_BYTES} bytes")
    obj = decoding.parse(body, "application/json")
    if not isinstance(obj, dict):
        raise BadRequest("an object is a JSON object")
    return obj
