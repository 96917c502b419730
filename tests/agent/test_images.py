"""Images for containers: what is pulled when, and what users are told."""

import re
from pathlib import Path

import pytest

from kubelite.agent.events import Recorder
from kubelite.agent.faults import StartFault
from kubelite.agent.images import Images
from kubelite.meta.types import Obj
from runtimes.fake import Backend
from runtimes.interface import BackendOptions, ImagePullFault
from tests.agent import conftest
from tests.agent.conftest import Cluster, status_of
from tests.agent.pods import container, pod


class Node:
    """Images over the fake runtime, with a clock that the test moves and the events that were told."""

    def __init__(self, path: Path) -> None:
        self.runtime = Backend(BackendOptions(str(path)))
        self.events: list[Obj] = []
        self.now_s = 1000.0
        self.images = Images(self.runtime, Recorder("n1", self.events.append), lambda: self.now_s)

    async def fault(self, image: str, **fields: str) -> tuple[str, str, float]:
        """The waiting reason and message, and the seconds until the next try, of an image that can't be had."""
        with pytest.raises(StartFault) as raised:
            await self.images.ensure(pod(), container("c", **{"image": image, **fields}), [])
        return raised.value.reason, raised.value.message, raised.value.retry_at_s - self.now_s

    def told(self) -> list[tuple[str, str, str]]:
        found = [(e["type"], e["reason"], e["message"]) for e in self.events]
        self.events.clear()
        return found


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


async def test_an_image_is_pulled_once_and_named_as_the_spec_names_it(node: Node) -> None:
    spec = container("c", image="web", imagePullPolicy="IfNotPresent")
    await node.images.ensure(pod(), spec, [])
    pulling, pulled = node.told()
    assert pulling == ("Normal", "Pulling", 'Pulling image "web"')
    took = r"(0s|\d+ms)"
    text = rf'Successfully pulled image "web" in {took} \({took} including waiting\)\. Image size: 1048576 bytes\.'
    assert re.fullmatch(text, pulled[2])
    await node.images.ensure(pod(), spec, [])
    assert node.told() == [("Normal", "Pulled", 'Container image "web" already present on machine')]
    await node.images.ensure(pod(), {**spec, "imagePullPolicy": "Always"}, [])
    assert [reason for _, reason, _ in node.told()] == ["Pulling", "Pulled"]


async def test_a_pull_that_fails_is_shown_and_then_waited_for(node: Node) -> None:
    node.runtime.set(faults=lambda verb, _: ImagePullFault("not found", "NotFound") if verb == "pull_image" else None)
    assert await node.fault("web") == ("ErrImagePull", "rpc error: code = NotFound desc = not found", 2)
    assert node.told()[1] == ("Warning", "Failed", 'Failed to pull image "web": rpc error: code = NotFound desc = not found')
    node.now_s += 2
    message = 'Back-off pulling image "web": ErrImagePull: rpc error: code = NotFound desc = not found'
    assert await node.fault("web") == ("ImagePullBackOff", message, 8)
    assert node.told() == [("Normal", "BackOff", 'Back-off pulling image "web"')]
    node.now_s += 8
    assert (await node.fault("web"))[0] == "ErrImagePull"
    node.now_s += 2
    assert (await node.fault("web"))[::2] == ("ImagePullBackOff", 18)


async def test_of_a_failure_without_a_class_only_the_text_is_told(node: Node) -> None:
    node.runtime.set(faults=lambda verb, _: ImagePullFault("broken", "Unknown") if verb == "pull_image" else None)
    assert (await node.fault("web"))[1] == "broken"


async def test_an_image_that_is_never_pulled_must_be_there(node: Node) -> None:
    text = 'Container image "web:2" is not present with pull policy of Never'
    assert (await node.fault("web:2", imagePullPolicy="Never"))[:2] == ("ErrImageNeverPull", text)
    assert node.told() == [("Warning", "ErrImageNeverPull", text)]
    await node.runtime.pull_image("web:2")
    assert await node.images.ensure(pod(), container("c", image="web:2", imagePullPolicy="Never"), [])


@pytest.mark.parametrize(
    ("name", "detail"),
    [
        ("bad//name", "invalid reference format"),
        ("UPPER", "invalid reference format: repository name (library/UPPER) must be lowercase"),
    ],
)
async def test_a_name_that_is_none_is_not_asked_for(node: Node, name: str, detail: str) -> None:
    text = f'Failed to apply default image tag "{name}": couldn\'t parse image name "{name}": {detail}'
    assert (await node.fault(name, imagePullPolicy="IfNotPresent"))[:2] == ("InvalidImageName", text)
    assert node.told() == [("Warning", "InspectFailed", text)]


async def test_a_pod_whose_image_is_corrected_does_not_wait_for_the_wrong_one(cluster: Cluster) -> None:
    cluster.runtime.set(missing_images=["wrong"])
    await cluster.run_pod(conftest.container(image="wrong:1"), imagePullSecrets=[{"name": "absent"}])
    await cluster.until_pod(lambda p: status_of(p)["state"]["waiting"]["reason"] == "ErrImagePull")

    async def told() -> bool:
        return {"FailedToRetrieveImagePullSecret", "Failed"} <= set(await cluster.reasons())

    await cluster.until(told, "the failure's events")
    patch = {"spec": {"containers": [{"name": "c", "image": "right:1"}]}}
    await cluster.client.patch("pods", "web", "default", patch, form="strategic")
    await cluster.until_pod(lambda p: p["status"]["phase"] == "Running")


async def test_a_runtime_that_lost_its_containers_does_not_make_counts_begin_anew(cluster: Cluster) -> None:
    await cluster.run_pod()
    await cluster.until_pod(lambda p: p["status"]["phase"] == "Running")
    (box,) = await cluster.runtime.list_sandboxes()
    await cluster.runtime.remove_sandbox(box.id)
    pod = await cluster.until_pod(lambda p: status_of(p)["restartCount"] == 1 and "running" in status_of(p)["state"])
    logs = cluster.agent.context.log_dir(pod) / "c"
    assert {file.name for file in logs.iterdir()} == {"0.log", "1.log"}
