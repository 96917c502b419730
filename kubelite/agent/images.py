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
from kubelite.meta import times
from kubelite.meta.types import Obj
from runtimes import references
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
        self._pulls: dict[tuple[str, tuple[RegistryAuth, ...]], asyncio.Task[tuple[str, float]]] = {}
        self._failures: dict[tuple[str, str], _Failure] = {}
        self._slots = asyncio.Semaphore(PARALLEL_PULLS)
        #: When each image was last asked for, or else first seen, for collection.
        self.last_used_s: dict[str, float] = {}

    async def ensure(self, pod: Obj, container: Obj, secrets: Sequence[Obj]) -> Image:
        """The container's image, pulled where its policy wants it.

        Raises:
            StartFault: it can't be had now.
        """
        requested = container.get("image", "")
        path = field_path(pod, container["name"])
        try:
            references.parse(requested)
        except InvalidImageName as e:
            message = f'Failed to apply default image tag "{requested}": {e}'
            self._recorder.pod(pod, "Warning", "InspectFailed", message, path)
            raise StartFault("InvalidImageName", message, self._now() + MAX_BACKOFF_S) from e
        policy = container.get("imagePullPolicy") or ("Always" if with_tag(requested).endswith(":latest") else "IfNotPresent")
        if policy == "Always" or (image := await self._present(pod, requested, path)) is None:
            if policy == "Never":
                message = f'Container image "{requested}" is not present with pull policy of Never'
                self._recorder.pod(pod, "Warning", "ErrImageNeverPull", message, path)
                raise StartFault("ErrImageNeverPull", message, self._now() + faults.RETRY_S)
            image = await self._pull(pod, requested, secrets, path)
        self.last_used_s[image.id] = self._now()
        return image

    async def _present(self, pod: Obj, requested: str, path: str) -> Image | None:
        """The image where the node has it. Raises StartFault."""
        try:
            image = await self._runtime.image_status(with_tag(requested))
        except RuntimeFault as e:
            message = f'Failed to inspect image "{requested}": {e.described}'
            self._recorder.pod(pod, "Warning", "InspectFailed", message, path)
            raise StartFault("ImageInspectError", message, self._now() + faults.RETRY_S) from e
        if image is not None:
            self._recorder.pod(pod, "Normal", "Pulled", f'Container image "{requested}" already present on machine', path)
        return image

    async def _pull(self, pod: Obj, requested: str, secrets: Sequence[Obj], path: str) -> Image:
        key = (pod["metadata"]["uid"], requested)
        failure = self._failures.get(key)
        if failure is not None and self._now() < failure.until_s:
            text = f'Back-off pulling image "{requested}"'
            self._recorder.pod(pod, "Normal", "BackOff", text, path)
            raise StartFault("ImagePullBackOff", f"{text}: {failure.message}", failure.until_s)
        self._recorder.pod(pod, "Normal", "Pulling", f'Pulling image "{requested}"', path)
        reference, began_s = with_tag(requested), time.monotonic()
        try:
            pulled, took_s = await self._shared_pull(reference, tuple(credentials_for(reference, secrets)))
            # A runtime that answers with the id only is asked for the rest.
            image = await self._runtime.image_status(pulled) or await self._runtime.image_status(reference)
        except RuntimeFault as e:
            # Of a failure that the runtime did not classify, the code says nothing.
            raise self._failed(pod, requested, path, str(e) if e.code == "Unknown" else e.described, failure) from e
        if image is None:
            raise self._failed(pod, requested, path, "the runtime lost the image after it pulled it", failure)
        self._failures.pop(key, None)
        waited = f"{_shown(took_s)} ({_shown(time.monotonic() - began_s)} including waiting)"
        text = f'Successfully pulled image "{requested}" in {waited}. Image size: {image.size_bytes} bytes.'
        self._recorder.pod(pod, "Normal", "Pulled", text, path)
        return image

    async def _shared_pull(self, reference: str, auths: tuple[RegistryAuth, ...]) -> tuple[str, float]:
        """What the runtime calls the image, and the seconds that the pull itself took."""
        key = (reference, auths)
        task = self._pulls.get(key)
        if task is None:
            task = asyncio.create_task(self._pull_with(reference, auths), name=f"pull {reference}")
            self._pulls[key] = task
            task.add_done_callback(lambda _: self._pulls.pop(key, None))
        # Another pod may wait for the same pull: who is cancelled leaves it running.
        return await asyncio.shield(task)

    async def _pull_with(self, reference: str, auths: tuple[RegistryAuth, ...]) -> tuple[str, float]:
        async with self._slots:
            began_s = time.monotonic()
            refused: list[ImagePullFault] = []
            for auth in auths or (None,):
                try:
                    return await self._runtime.pull_image(reference, auth), time.monotonic() - began_s
                except ImagePullFault as e:
                    refused.append(e)
            texts = list(dict.fromkeys(e.described for e in refused))
            raise refused[0] if len(texts) == 1 else ImagePullFault(f"[{', '.join(texts)}]")

    def _failed(self, pod: Obj, requested: str, path: str, message: str, before: _Failure | None) -> StartFault:
        delay_s = min(before.delay_s * 2, MAX_BACKOFF_S) if before else INITIAL_BACKOFF_S
        now_s = self._now()
        self._recorder.pod(pod, "Warning", "Failed", f'Failed to pull image "{requested}": {message}', path)
        self._failures[pod["metadata"]["uid"], requested] = _Failure(delay_s, now_s + delay_s, f"ErrImagePull: {message}")
        return StartFault("ErrImagePull", message, now_s + SHOW_FAILURE_S)

    def seen(self, images: Iterable[Image]) -> None:
        """What the runtime has: an image that nobody has asked for yet may be there for a pod that is to come."""
        for image in images:
            self.last_used_s.setdefault(image.id, self._now())

    def forget(self, pod_uid: str) -> None:
        """The pod is gone: its failures are no longer remembered."""
        for key in [k for k in self._failures if k[0] == pod_uid]:
            del self._failures[key]


def _shown(seconds: float) -> str:
    return times.format_go_duration(int(seconds * 1000) * 1_000_000)


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
