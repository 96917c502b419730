"""pods/exec and pods/attach: a command's or a container's standard streams, over WebSocket or SPDY.

Source: pkg/registry/core/pod/rest/subresources.go and pkg/apis/core/v1/defaults.go (PodExecOptions), v1.34.
"""

from typing import TYPE_CHECKING

from kubelite.api.handlers import not_allowed, pods
from kubelite.api.handlers.options import first
from kubelite.api.requests import Request, Streamed, is_true
from kubelite.api.streaming import remotecommand, websocket
from kubelite.api.streaming.bytestream import Closed
from kubelite.meta.errors import BadRequest
from kubelite.meta.types import Obj
from kubelite.rpc import node_pb2 as pb
from kubelite.schema.kinds import Kind

if TYPE_CHECKING:
    from kubelite.api.app import Api

_ENDED = ("Succeeded", "Failed")


async def handle(api: "Api", request: Request, kind: Kind) -> Streamed:
    if request.info.verb not in ("get", "create"):
        raise not_allowed()
    is_exec = request.info.subresource == "exec"
    pod = await pods.find(api, request)
    query = request.query
    wanted = remotecommand.Wanted(
        stdin=is_true(query.get("stdin")),
        stdout=is_true(query.get("stdout")),
        stderr=is_true(query.get("stderr")),
        tty=is_true(query.get("tty")),
    )
    if wanted.tty and wanted.stderr:
        # A terminal has one output; upstream's clients never ask for both, others get the one.
        wanted = remotecommand.Wanted(wanted.stdin, wanted.stdout, False, True)
    if not (wanted.stdin or wanted.stdout or wanted.stderr):
        raise BadRequest("you must specify at least 1 of stdin, stdout, stderr")
    command = query.get("command") or []
    if is_exec and not command:
        raise BadRequest("you must specify at least one command for the container")
    container = pods.container_of(pod, first(query, "container"))
    phase = (pod.get("status") or {}).get("phase", "")
    if phase in _ENDED:
        what = "exec into" if is_exec else "attach to"
        raise BadRequest(f"cannot {what} a container in a completed pod; current phase is {phase}")
    node = pods.node_of(pod)
    options: Obj = {
        "stdin": wanted.stdin,
        "stdout": wanted.stdout,
        "stderr": wanted.stderr,
        "tty": wanted.tty,
        "container": container,
    }
    if is_exec:
        options["command"] = command
    await pods.admit(api, request, kind, "PodExecOptions" if is_exec else "PodAttachOptions", options)
    message = _message(pod, container, command, wanted, is_exec)
    is_websocket = websocket.is_upgrade(request)
    if not is_websocket and not remotecommand.is_spdy(request):
        raise BadRequest("Upgrade request required")
    # Before the upgrade, so that a node that refuses is answered with a Status.
    stream = await pods.nodes_of(api).open_stream(node, message)
    opener = remotecommand.WebSocketChannels if is_websocket else remotecommand.SpdyChannels
    try:
        channels: remotecommand.Channels = await opener.open(request.connection, request, wanted)
    except Closed:
        await stream.close()
        return Streamed(101, closed=True)
    except BaseException:
        await stream.close()
        raise
    await remotecommand.relay(channels, stream)
    return Streamed(101, closed=True)


def _message(pod: Obj, container: str, command: list[str], wanted: remotecommand.Wanted, is_exec: bool) -> pb.Exec | pb.Attach:
    meta = pod["metadata"]
    message = pb.Exec(command=command) if is_exec else pb.Attach()
    message.namespace, message.pod, message.pod_uid = meta["namespace"], meta["name"], meta["uid"]
    message.container = container
    message.stdin, message.stdout, message.stderr = wanted.stdin, wanted.stdout, wanted.stderr
    message.tty = wanted.tty
    return message
