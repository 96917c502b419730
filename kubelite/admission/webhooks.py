"""Webhooks: MutatingWebhookConfigurations and ValidatingWebhookConfigurations as two plugins of the chain.

Mutating hooks are called one after the other in the order of their configurations' names, validating ones together. How a
hook is reached is `client.webhooks`' business; here is which hooks a request concerns and what their answers mean.

Source: apiserver pkg/admission/plugin/webhook/{mutating,validating}/dispatcher.go, errors/statuserror.go.
"""

import asyncio
import base64
import binascii
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson
import structlog

from kubelite.admission.chain import with_object
from kubelite.admission.conditions import ConditionFailed, Scope, all_hold
from kubelite.admission.contract import Permits
from kubelite.admission.matching import Matcher, namespace_labels
from kubelite.admission.requests import format_request, with_kind
from kubelite.client.contract import Client
from kubelite.client.informers import Informers
from kubelite.client.webhooks import Caller, CallFailed
from kubelite.meta import errors, patches
from kubelite.meta.types import Obj
from kubelite.registry import bodies
from kubelite.registry.contract import Attributes, Operation
from kubelite.schema.kinds import Kind

log = structlog.get_logger()

_GROUP = "admissionregistration.k8s.io"
_KEPT_SELECTIONS = 4096
_TELL_EVERY_S = 10.0


@dataclass(frozen=True, slots=True, eq=False)
class Hook:
    """One webhook of a configuration."""

    name: str
    configuration: str
    spec: Obj
    matcher: Matcher

    @property
    def ignores_failure(self) -> bool:
        return bool(self.spec.get("failurePolicy", "Fail") == "Ignore")


class _Hooks:
    """What both plugins share: the hooks of the configurations there are, and which of them a request concerns."""

    resource = ""

    def __init__(self, client: Client, informers: Informers, permits: Permits, caller: Caller) -> None:
        self._client = client
        self._permits = permits
        self._caller = caller
        self._namespaces = informers.of("namespaces")
        self._configurations = informers.of(f"{self.resource}.{_GROUP}")
        self._hooks: list[Hook] | None = None
        self._selections: dict[tuple[Operation, Kind, str], tuple[Hook, ...]] = {}
        self._told: dict[str, float] = {}
        self._configurations.subscribe(self._changed)

    def handles(self, operation: Operation, kind: Kind, subresource: str) -> bool:
        return kind.group not in (_GROUP, "authorization.k8s.io", "authentication.k8s.io")

    def _changed(self, old: Obj | None, new: Obj | None) -> None:
        self._hooks = None
        self._selections.clear()
        self._told.clear()

    def _selection(self, attributes: Attributes) -> tuple[Hook, ...]:
        """The hooks whose rules match, before any selector is asked."""
        key = attributes.operation, attributes.target.kind, attributes.target.subresource
        found = self._selections.get(key)
        if found is None:
            if self._hooks is None:
                self._hooks = _hooks_of(self._configurations.list())
            if len(self._selections) >= _KEPT_SELECTIONS:
                self._selections.clear()
            found = self._selections[key] = tuple(hook for hook in self._hooks if hook.matcher.matches_kind(*key))
        return found

    async def _concerns(self, hook: Hook, attributes: Attributes) -> bool:
        """Whether a hook is to be called. Raises where that can't be said and the hook's failures count."""
        labels = await namespace_labels(self._namespaces, self._client, attributes) if hook.matcher.needs_namespace else None
        if not hook.matcher.is_for(attributes, labels):
            return False
        conditions = hook.spec.get("matchConditions")
        if conditions:
            try:
                return all_hold(conditions, Scope(attributes, self._permits))
            except ConditionFailed as error:
                log.warning("webhook_condition_failed", webhook=hook.name, error=str(error))
                if hook.ignores_failure:
                    return False
                raise errors.InternalError.of(f'failed evaluating match conditions of webhook "{hook.name}": {error}') from error
        return True

    async def _ask(self, hook: Hook, attributes: Attributes) -> Obj | None:
        """A hook's answer; None where it failed and that is to be ignored.

        Raises:
            BadRequest: a dry run, and the hook has side effects. InternalError: the call failed, and that counts.
        """
        if attributes.dry_run and hook.spec.get("sideEffects") not in ("None", "NoneOnDryRun"):
            raise errors.BadRequest(f'admission webhook "{hook.name}" does not support dry run')
        request = format_request(attributes)
        for field, obj in (("object", attributes.obj), ("oldObject", attributes.old)):
            request[field] = with_kind(attributes, obj)
        review = {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request}
        timeout_s = float(hook.spec.get("timeoutSeconds") or 10)
        try:
            answer = await self._caller.call(hook.spec.get("clientConfig") or {}, review, timeout_s)
        except CallFailed as error:
            self._note_failure(hook, f"failed to call webhook: {error}", error)
            return None
        try:
            return _checked(answer, request["uid"])
        except CallFailed as error:
            self._note_failure(hook, str(error), error)
            return None

    def _note_failure(self, hook: Hook, why: str, error: CallFailed) -> None:
        """Logs it, and raises InternalError where it is not to be ignored."""
        self._tell(hook, why)
        if not hook.ignores_failure:
            raise errors.InternalError.of(f'failed calling webhook "{hook.name}": {why}') from error

    def _tell(self, hook: Hook, error: str) -> None:
        """Logs a failure, of one hook not more often than an operator would want to read it."""
        now = time.monotonic()
        if now - self._told.get(hook.name, -_TELL_EVERY_S) >= _TELL_EVERY_S:
            self._told[hook.name] = now
            log.warning("webhook_failed", webhook=hook.name, error=error, ignored=hook.ignores_failure)


class MutatingWebhooks(_Hooks):
    """The plugin of the mutating pass."""

    name = "MutatingAdmissionWebhook"
    resource = "mutatingwebhookconfigurations"

    async def admit(self, attributes: Attributes) -> Obj | None:
        for hook in self._selection(attributes):
            attributes = await self._apply(hook, attributes)
        return attributes.obj

    async def admit_again(self, attributes: Attributes, before: Obj | None) -> Obj | None:
        """Calls the hooks once more that ask for it. They must be idempotent, so whether each of them really has something new
        to see is not worked out."""
        for hook in self._selection(attributes):
            if hook.spec.get("reinvocationPolicy") == "IfNeeded":
                attributes = await self._apply(hook, attributes)
        return attributes.obj

    async def _apply(self, hook: Hook, attributes: Attributes) -> Attributes:
        if not await self._concerns(hook, attributes):
            return attributes
        answer = await self._ask(hook, attributes)
        if answer is None:
            return attributes
        _note_warnings(attributes, answer)
        if not answer.get("allowed"):
            raise refused(hook.name, answer.get("status"))
        if not answer.get("patch"):
            return attributes
        if attributes.obj is None:
            text = f'admission webhook "{hook.name}" attempted to modify the object, which is not supported for this operation'
            raise errors.InternalError.of(text)
        try:
            operations = orjson.loads(base64.b64decode(answer["patch"]))
            changed = patches.json_patch(with_kind(attributes, attributes.obj), operations)
        except (ValueError, binascii.Error, errors.ApiError) as error:
            if hook.ignores_failure:
                return attributes
            text = f'failed calling webhook "{hook.name}": received undecodable patch in webhook response: {error}'
            raise errors.InternalError.of(text) from error
        return with_object(attributes, _in_form(attributes, changed))


class ValidatingWebhooks(_Hooks):
    """The plugin of the validating pass."""

    name = "ValidatingAdmissionWebhook"
    resource = "validatingwebhookconfigurations"

    async def validate(self, attributes: Attributes) -> None:
        selection = self._selection(attributes)
        if not selection:
            return
        hooks = [hook for hook in selection if await self._concerns(hook, attributes)]
        if len(hooks) == 1:
            await self._check(hooks[0], attributes)
        elif hooks:
            results = await asyncio.gather(*map(partial(self._check, attributes=attributes), hooks), return_exceptions=True)
            for result in results:
                if result is not None:
                    raise result

    async def _check(self, hook: Hook, attributes: Attributes) -> None:
        answer = await self._ask(hook, attributes)
        if answer is None:
            return
        _note_warnings(attributes, answer)
        if not answer.get("allowed"):
            raise refused(hook.name, answer.get("status"))


def refused(name: str, status: Any) -> errors.ApiError:
    """The error of a webhook's no: its own status, said to be its, and never a success."""
    status = dict(status) if isinstance(status, dict) else {}
    denied = f'admission webhook "{name}" denied the request'
    text = status.get("message") or status.get("reason")
    status["message"] = f"{denied}: {text}" if text else f"{denied} without explanation"
    code = status.get("code")
    status["code"] = code if isinstance(code, int) and code >= 400 else 400
    error = errors.ApiError.from_status(status)
    error.reason = str(status.get("reason") or "")
    return error


def _in_form(attributes: Attributes, changed: Obj) -> Obj:
    """The object that a hook changed, in normal form and defaulted again. Bodies of subresources' own kinds stay as they are.

    Raises:
        InternalError: it is no object of its kind any more.
    """
    kind = attributes.target.kind
    if attributes.body_kind[2] not in ("", kind.kind):
        return changed
    try:
        return bodies.admitted(kind, changed)
    except errors.BadRequest as error:
        raise errors.InternalError.of(error.message) from error


def _hooks_of(configurations: list[Obj]) -> list[Hook]:
    hooks = []
    for configuration in sorted(configurations, key=lambda c: str(c["metadata"]["name"])):
        for spec in configuration.get("webhooks") or ():
            matcher = Matcher(
                spec.get("rules") or (),
                namespace_selector=spec.get("namespaceSelector"),
                object_selector=spec.get("objectSelector"),
                equivalent=spec.get("matchPolicy", "Equivalent") == "Equivalent",
            )
            hooks.append(Hook(spec["name"], configuration["metadata"]["name"], spec, matcher))
    return hooks


def _checked(review: Any, uid: str) -> Obj:
    """The response in a review. Raises CallFailed where it is none."""
    if not isinstance(review, dict) or not isinstance(review.get("response"), dict):
        raise CallFailed("received invalid webhook response: webhook response was absent")
    if (review.get("kind"), review.get("apiVersion")) != ("AdmissionReview", "admission.k8s.io/v1"):
        text = "received invalid webhook response: expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview"
        raise CallFailed(text)
    response: Obj = review["response"]
    if response.get("uid") != uid:
        raise CallFailed(f'received invalid webhook response: expected response.uid="{uid}", got "{response.get("uid", "")}"')
    if bool(response.get("patch")) != bool(response.get("patchType")):
        raise CallFailed("received invalid webhook response: response.patch and response.patchType go together")
    if response.get("patchType") not in (None, "", "JSONPatch"):
        raise CallFailed(
            f'received invalid webhook response: webhook returned invalid response.patchType of "{response["patchType"]}"'
        )
    return response


def _note_warnings(attributes: Attributes, answer: Obj) -> None:
    warnings = answer.get("warnings")
    if isinstance(warnings, list):
        attributes.warnings.extend(str(text)[:256] for text in warnings[:32])
