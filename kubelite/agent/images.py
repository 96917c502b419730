"""Images for containers: pull policies, credentials, back-off, and which images nobody needs any more.

One pull of an image at a time, whoever asks: the others wait for it. A pull that failed is not tried again for the same pod
before its back-off ends.

Source: pkg/kubelet/images (policies, events, messages), pkg/credentialprovider (matching), v1.34.
"""

import asyncio
import base64
import binascii
import fnmatch
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import orjson
import structlog

from kubelite.agent import faults
from kubelite.agent.events import Recorder, field_path
from kubelite.agent.faults import StartFault
from kubelite.agent.podstate import INITIAL_BACKOFF_S, MAX_BACKOFF_S
from kubelite.meta.types import Obj
from runtimes.interface import Image, ImagePullFault, InvalidImageName, RegistryAuth, Runtime, RuntimeFault

log = structlog.get_logger()

PARALLEL_PULLS = 4
#: How long ErrImagePull is shown before it becomes ImagePullBackOff.
SHOW_FAILURE_S = 2.0


@dataclass(frozen=True, slots=True)
class _Failure:
    delay_s: float
    until_s: float
    message: str


class Images:
    """The node's images."""

    def __init__(self, runtime: Runtime, recorder: Recorder, now: Callable[[], float] = time.time) -> None:
        self._runtime = runtime
        self._recorder = recorder
        self._now = now
        self._pulls: dict[tuple[str, tuple[RegistryAuth, ...]], asyncio.Task[str]] = {}
        self._failures: dict[tuple[str, str], _Failure] = {}
        self._slots = asyncio.Semaphore(PARALLEL_PULLS)
        #: When each image was last asked for, for collection.
        self.last_used_s: dict[str, float] = {}

    async def ensure(self, pod: Obj, container: Obj, secrets: Sequence[Obj]) -> Image:
        """The container's image, pulled where its policy wants it.

        Raises:
            StartFault: it can't be had now.
        """
        requested = container.get("image", "")
        reference = with_tag(requested)
        path = field_path(pod, container["name"])
        policy = container.get("imagePullPolicy") or ("Always" if reference.endswith(":latest") else "IfNotPresent")
        if policy != "Always":
            try:
                image = await self._runtime.image_status(reference)
            except InvalidImageName as e:
                raise self._invalid(pod, requested, path, str(e)) from e
            except RuntimeFault as e:
                message = f'Failed to inspect image "{requested}": {e}'
                self._recorder.pod(pod, "Warning", "InspectFailed", message, path)
                raise StartFault("ImageInspectError", message, self._now() + faults.RETRY_S) from e
            if image is not None:
                self.last_used_s[image.id] = self._now()
                text = f'Container image "{requested}" already present on machine'
                self._recorder.pod(pod, "Normal", "Pulled", text, path)
                return image
            if policy == "Never":
                message = f'Container image "{requested}" is not present with pull policy of Never'
                self._recorder.pod(pod, "Warning", "ErrImageNeverPull", message, path)
                raise StartFault("ErrImageNeverPull", message, self._now() + faults.RETRY_S)
        return await self._pull(pod, reference, secrets, path)

    async def _pull(self, pod: Obj, reference: str, secrets: Sequence[Obj], path: str) -> Image:
        key = (pod["metadata"]["uid"], reference)
        failure = self._failures.get(key)
        if failure is not None and self._now() < failure.until_s:
            text = f'Back-off pulling image "{reference}"'
            self._recorder.pod(pod, "Normal", "BackOff", text, path)
            raise StartFault("ImagePullBackOff", f"{text}: {failure.message}", failure.until_s)
        self._recorder.pod(pod, "Normal", "Pulling", f'Pulling image "{reference}"', path)
        began_s = time.monotonic()
        try:
            pulled = await self._shared_pull(reference, tuple(credentials_for(reference, secrets)))
            # A runtime that answers with the id only is asked for the rest.
            image = await self._runtime.image_status(pulled) or await self._runtime.image_status(reference)
        except InvalidImageName as e:
            raise self._invalid(pod, reference, path, str(e)) from e
        except RuntimeFault as e:
            raise self._failed(pod, reference, path, str(e), failure) from e
        if image is None:
            raise self._failed(pod, reference, path, "the runtime lost the image after it pulled it", failure)
        self._failures.pop(key, None)
        self.last_used_s[image.id] = self._now()
        took = f"{time.monotonic() - began_s:.3f}".rstrip("0").rstrip(".") + "s"
        size = f"Image size: {image.size_bytes} bytes."
        self._recorder.pod(
            pod,
            "Normal",
            "Pulled",
            f'Successfully pulled image "{reference}" in {took} ({took} including waiting). {size}',
            path,
        )
        return image

    async def _shared_pull(self, reference: str, auths: tuple[RegistryAuth, ...]) -> str:
        key = (reference, auths)
        task = self._pulls.get(key)
        if task is None:
            task = asyncio.create_task(self._pull_with(reference, auths), name=f"pull {reference}")
            self._pulls[key] = task
            task.add_done_callback(lambda _: self._pulls.pop(key, None))
        # Another pod may wait for the same pull: who is cancelled leaves it running.
        return await asyncio.shield(task)

    async def _pull_with(self, reference: str, auths: tuple[RegistryAuth, ...]) -> str:
        async with self._slots:
            fault: RuntimeFault | None = None
            for auth in auths or (None,):
                try:
                    return await self._runtime.pull_image(reference, auth)
                except ImagePullFault as e:
                    fault = e
            raise fault or ImagePullFault(f"cannot pull {reference}")

    def _failed(self, pod: Obj, reference: str, path: str, message: str, before: _Failure | None) -> StartFault:
        delay_s = min(before.delay_s * 2, MAX_BACKOFF_S) if before else INITIAL_BACKOFF_S
        now_s = self._now()
        self._recorder.pod(pod, "Warning", "Failed", f'Failed to pull image "{reference}": {message}', path)
        self._failures[pod["metadata"]["uid"], reference] = _Failure(delay_s, now_s + delay_s, f"ErrImagePull: {message}")
        return StartFault("ErrImagePull", message, now_s + SHOW_FAILURE_S)

    def _invalid(self, pod: Obj, requested: str, path: str, detail: str) -> StartFault:
        message = f'Failed to apply default image tag "{requested}": couldn\'t parse image name "{requested}": {detail}'
        self._recorder.pod(pod, "Warning", "InspectFailed", message, path)
        return StartFault("InvalidImageName", message, self._now() + MAX_BACKOFF_S)

    def forget(self, pod_uid: str) -> None:
        """The pod is gone: its failures are no longer remembered."""
        for key in [k for k in self._failures if k[0] == pod_uid]:
            del self._failures[key]


def with_tag(reference: str) -> str:
    """The reference with `:latest` where it has neither tag nor digest."""
    last = reference.rsplit("/", 1)[-1]
    return reference if "@" in reference or ":" in last else f"{reference}:latest"


def credentials_for(reference: str, secrets: Iterable[Obj]) -> list[RegistryAuth]:
    """The credentials of image pull secrets that fit the image, the most specific first."""
    domain, _, path = reference.partition("/")
    if not path or not ("." in domain or ":" in domain or domain == "localhost"):
        domain, path = "docker.io", reference if path else f"library/{reference}"
    target = f"{domain}/{path}".split("@")[0]
    found: list[tuple[int, RegistryAuth]] = []
    for secret in secrets:
        for server, entry in _auths_of(secret).items():
            pattern = server.split("://", 1)[-1].rstrip("/")
            pattern = pattern.removesuffix("/v1").removesuffix("/v2").replace("index.docker.io", "docker.io")
            host, _, prefix = pattern.partition("/")
            if (
                fnmatch.fnmatchcase(domain, host)
                and host.count(".") == domain.count(".")
                and target.startswith(f"{domain}/{prefix}")
            ):
                auth = _auth_of(entry)
                if auth is not None and all(auth != known for _, known in found):
                    found.append((len(pattern), auth))
    return [auth for _, auth in sorted(found, key=lambda item: -item[0])]


def _auths_of(secret: Obj) -> Obj:
    data = secret.get("data") or {}
    try:
        if ".dockerconfigjson" in data:
            found = orjson.loads(base64.b64decode(data[".dockerconfigjson"])).get("auths") or {}
        elif ".dockercfg" in data:
            found = orjson.loads(base64.b64decode(data[".dockercfg"]))
        else:
            return {}
    except (ValueError, AttributeError):
        log.warning("image_pull_secret_unreadable", secret=secret["metadata"]["name"])
        return {}
    return found if isinstance(found, dict) else {}


def _auth_of(entry: Obj) -> RegistryAuth | None:
    username, password = entry.get("username", ""), entry.get("password", "")
    if not username and entry.get("auth"):
        try:
            username, _, password = base64.b64decode(entry["auth"]).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
    token = entry.get("identitytoken", "")
    if not (username or token):
        return None
    return RegistryAuth(username=username, password=password, identity_token=token)
