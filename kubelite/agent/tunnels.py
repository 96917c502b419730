"""The agent's end of tunnels: logs, exec, attach, port-forward and connections, each opened when the server asks for it.

A tunnel's last frame from here is an Exit with a Status, as the API hands it to the client.
"""

import asyncio
import contextlib
import ipaddress
import shlex
from collections.abc import AsyncIterator

import orjson
import structlog

from kubelite.agent import logs
from kubelite.agent.context import Context
from kubelite.agent.link import Link, LinkFault
from kubelite.agent.logs import Query
from kubelite.agent.observation import Record
from kubelite.agent.pods import Pods
from kubelite.agent.podstate import container_of
from kubelite.agent.stats import Stats
from kubelite.agent.sync import PodWorker
from kubelite.meta import times
from kubelite.meta.types import Obj
from kubelite.rpc import node_pb2 as pb
from runtimes.interface import ByteStream, ExecStream, RuntimeFault

log = structlog.get_logger()

CHUNK_BYTES = 64 * 1024
QUEUE_FRAMES = 64
DIAL_TIMEOUT_S = 30.0
#: What a waiting reason means for who asks for a log.
_WAITS = {"ErrImagePull": "image can't be pulled", "ImagePullBackOff": "trying and failing to pull image"}


class Refused(Exception):
    """The tunnel can't be: the message and reason go into its Status."""

    def __init__(self, message: str, reason: str = "BadRequest", code: int = 400) -> None:
        super().__init__(message)
        self.message, self.reason, self.code = message, reason, code


class Tunnels:
    """Serves tunnels over one link."""

    def __init__(self, context: Context, pods: Pods, link: Link) -> None:
        self._context = context
        self._pods = pods
        self._link = link
        self._stats = Stats(context, pods)

    async def serve(self, request: pb.TunnelRequest) -> None:
        """One tunnel from its opening to its end."""
        out: asyncio.Queue[pb.TunnelFrame | None] = asyncio.Queue(QUEUE_FRAMES)
        arrived: asyncio.Queue[pb.TunnelFrame | None] = asyncio.Queue(QUEUE_FRAMES)

        async def frames() -> AsyncIterator[pb.TunnelFrame]:
            yield pb.TunnelFrame(open=request.tunnel_id)
            while (frame := await out.get()) is not None:
                yield frame

        async def receive() -> None:
            try:
                async with contextlib.aclosing(self._link.tunnel(frames())) as tunnel:
                    async for frame in tunnel:
                        await arrived.put(frame)
            except LinkFault as e:
                log.info("tunnel_lost", tunnel=request.tunnel_id, error=str(e))
            finally:
                work.cancel()

        work = asyncio.ensure_future(self._work(request, arrived, out))
        receiving = asyncio.create_task(receive(), name=f"tunnel {request.tunnel_id}")
        try:
            await asyncio.wait([work])
            if not work.cancelled() and (fault := work.exception()) is not None:
                raise fault
            # The other side closes once it has the last frame.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(10):
                    await asyncio.wait([receiving])
        finally:
            work.cancel()
            receiving.cancel()
            await asyncio.gather(work, receiving, return_exceptions=True)

    async def _work(
        self,
        request: pb.TunnelRequest,
        arrived: "asyncio.Queue[pb.TunnelFrame | None]",
        out: "asyncio.Queue[pb.TunnelFrame | None]",
    ) -> None:
        status = success()
        try:
            match request.WhichOneof("purpose"):
                case "logs":
                    await self._logs(request.logs, out)
                case "exec":
                    status = await self._exec(request.exec, arrived, out)
                case "attach":
                    status = await self._attach(request.attach, arrived, out)
                case "port_forward":
                    await self._port_forward(request.port_forward, arrived, out)
                case "dial":
                    await self._dial(request.dial, arrived, out)
                case "stats":
                    await out.put(pb.TunnelFrame(stdout=orjson.dumps(await self._stats.summary())))
                case other:
                    raise Refused(f"this agent does not know tunnels for {other}")
        except Refused as e:
            status = failure(e.message, e.reason, e.code)
        except (RuntimeFault, OSError, TimeoutError) as e:
            status = failure(str(e) or type(e).__name__, "InternalError", 500)
        await out.put(pb.TunnelFrame(exit=pb.Exit(status_json=orjson.dumps(status))))
        await out.put(None)

    # Finding what is asked for.

    def _worker(self, namespace: str, pod: str, uid: str) -> PodWorker:
        worker = self._pods.worker(namespace, pod, uid)
        if worker is None:
            raise Refused(f'pod "{pod}" does not exist on node {self._context.options.node_name}', "NotFound", 404)
        return worker

    def _running(self, worker: PodWorker, name: str) -> Record:
        name = name or worker.pod["spec"]["containers"][0]["name"]
        record = worker.observed.newest(name)
        if record is None or not record.running:
            raise Refused(f'container not found ("{name}")', "NotFound", 404)
        return record

    # The kinds of tunnels.

    async def _logs(self, asked: pb.Logs, out: "asyncio.Queue[pb.TunnelFrame | None]") -> None:
        worker = self._worker(asked.namespace, asked.pod, asked.pod_uid)
        name = asked.container or worker.pod["spec"]["containers"][0]["name"]
        record = self._logged(worker, name, asked.previous)
        path = self._context.log_dir(worker.pod) / name / f"{record.restarts}.log"

        def ended() -> bool:
            current = worker.records.get(record.id)
            return current is None or not current.may_run

        async def looked() -> None:
            await worker.looked.wait()

        since_s = self._context.now() - asked.since_seconds if asked.HasField("since_seconds") else None
        if asked.since_time:
            since_s = times.parse_seconds(asked.since_time)
        query = Query(
            follow=asked.follow,
            timestamps=asked.timestamps,
            since_s=since_s,
            tail_lines=asked.tail_lines if asked.HasField("tail_lines") else None,
            limit_bytes=asked.limit_bytes if asked.HasField("limit_bytes") else None,
            stream="" if asked.stream == "All" else asked.stream,
        )
        try:
            await asyncio.to_thread(path.stat)
            # Tells the server that there is a log, before there may be anything in it.
            await out.put(pb.TunnelFrame(stdout=b""))
            async for chunk in logs.read(path, query, ended, looked):
                await out.put(pb.TunnelFrame(stdout=chunk))
        except FileNotFoundError as e:
            raise Refused(f"unable to retrieve container logs for {self._id(record)}", "InternalError", 500) from e

    def _logged(self, worker: PodWorker, name: str, previous: bool) -> Record:
        """The container whose log is asked for, by the pod's status: the one that runs or ended last, or that before it."""
        where = f'container "{name}" in pod "{worker.pod["metadata"]["name"]}"'
        if container_of(worker.pod, name) is None:
            raise Refused(f"container {name} is not valid for pod {worker.pod['metadata']['name']}")
        fields = ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")
        entry = next((e for f in fields for e in worker.status.get(f) or () if e["name"] == name), None)
        if entry is None:
            raise Refused(f"{where} is not available")
        state, last = entry["state"], (entry.get("lastState") or {}).get("terminated")
        if previous:
            if last is None or not last.get("containerID"):
                raise Refused(f"previous terminated {where} not found")
            return self._record(worker, last["containerID"])
        for ended in (state.get("running") and entry, state.get("terminated"), last):
            if ended is not None and ended.get("containerID"):
                return self._record(worker, ended["containerID"])
        if "waiting" not in state or last is not None:
            raise Refused(f"{where} is terminated")
        reason = state["waiting"].get("reason", "")
        raise Refused(f"{where} is waiting to start: {_WAITS.get(reason, reason)}")

    def _record(self, worker: PodWorker, container_id: str) -> Record:
        record = worker.records.get(container_id.rpartition("//")[2])
        if record is None:
            raise Refused(f"unable to retrieve container logs for {container_id}", "InternalError", 500)
        return record

    def _id(self, record: Record) -> str:
        return f"{self._context.options.runtime_name}://{record.id}"

    async def _exec(
        self, asked: pb.Exec, arrived: "asyncio.Queue[pb.TunnelFrame | None]", out: "asyncio.Queue[pb.TunnelFrame | None]"
    ) -> Obj:
        record = self._running(self._worker(asked.namespace, asked.pod, asked.pod_uid), asked.container)
        stream = await self._context.runtime.exec(record.id, tuple(asked.command), tty=asked.tty, stdin=asked.stdin)
        code = await self._pump(stream, arrived, out, stdin=asked.stdin, stdout=asked.stdout, stderr=asked.stderr)
        log.debug("exec_ended", command=shlex.join(asked.command[:3]), code=code)
        return success() if code == 0 else exit_code(code)

    async def _attach(
        self, asked: pb.Attach, arrived: "asyncio.Queue[pb.TunnelFrame | None]", out: "asyncio.Queue[pb.TunnelFrame | None]"
    ) -> Obj:
        worker = self._worker(asked.namespace, asked.pod, asked.pod_uid)
        record = self._running(worker, asked.container)
        found = container_of(worker.pod, record.name)
        tty = bool(found and found[0].get("tty"))
        stream = await self._context.runtime.attach(record.id, tty=tty, stdin=asked.stdin)
        await self._pump(stream, arrived, out, stdin=asked.stdin, stdout=asked.stdout, stderr=asked.stderr)
        return success()

    async def _pump(
        self,
        stream: ExecStream,
        arrived: "asyncio.Queue[pb.TunnelFrame | None]",
        out: "asyncio.Queue[pb.TunnelFrame | None]",
        *,
        stdin: bool,
        stdout: bool,
        stderr: bool,
    ) -> int:
        async def inwards() -> None:
            while (frame := await arrived.get()) is not None:
                match frame.WhichOneof("frame"):
                    case "stdin" if stdin:
                        await stream.write_stdin(frame.stdin)
                    case "stdin_closed" if stdin:
                        await stream.write_stdin(b"")
                    case "resize":
                        await stream.resize(frame.resize.columns, frame.resize.rows)

        feeding = asyncio.create_task(inwards(), name="tunnel input")
        try:
            async for channel, data in stream.output():
                if channel == 1 and stdout:
                    await out.put(pb.TunnelFrame(stdout=data))
                elif channel == 2 and stderr:
                    await out.put(pb.TunnelFrame(stderr=data))
            return await stream.exit_code()
        finally:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)
            await stream.close()

    async def _port_forward(
        self, asked: pb.PortForward, arrived: "asyncio.Queue[pb.TunnelFrame | None]", out: "asyncio.Queue[pb.TunnelFrame | None]"
    ) -> None:
        worker = self._worker(asked.namespace, asked.pod, asked.pod_uid)
        sandbox = worker.observed.active
        if sandbox is None:
            raise Refused("the pod's sandbox is not running", "InternalError", 500)
        await self._bytes(await self._context.runtime.port_forward(sandbox.id, asked.port), arrived, out)

    async def _dial(
        self, asked: pb.Dial, arrived: "asyncio.Queue[pb.TunnelFrame | None]", out: "asyncio.Queue[pb.TunnelFrame | None]"
    ) -> None:
        """Only to pods of this node and to the node itself, by address: never to what only the node may reach."""
        try:
            address = ipaddress.ip_address(asked.host)
        except ValueError as e:
            raise Refused(f"{asked.host} is not an address") from e
        own = {ip for worker in self._pods.all() for ip in worker.observed.ips} | set(self._context.host_ips)
        if str(address) not in own or address.is_loopback or address.is_link_local:
            raise Refused(f"{asked.host} is no pod of this node", "Forbidden", 403)
        async with asyncio.timeout(DIAL_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(str(address), asked.port)
        await self._bytes(_Socket(reader, writer), arrived, out)

    async def _bytes(
        self, stream: ByteStream, arrived: "asyncio.Queue[pb.TunnelFrame | None]", out: "asyncio.Queue[pb.TunnelFrame | None]"
    ) -> None:
        async def inwards() -> None:
            while (frame := await arrived.get()) is not None:
                match frame.WhichOneof("frame"):
                    case "stdin":
                        await stream.write(frame.stdin)
                    case "stdin_closed":
                        await stream.write_eof()

        feeding = asyncio.create_task(inwards(), name="tunnel input")
        try:
            while data := await stream.read():
                await out.put(pb.TunnelFrame(stdout=data))
        finally:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)
            await stream.close()


class _Socket:
    """A TCP connection as a ByteStream."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def read(self) -> bytes:
        return await self._reader.read(CHUNK_BYTES)

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def write_eof(self) -> None:
        if self._writer.can_write_eof():
            self._writer.write_eof()

    async def close(self) -> None:
        self._writer.close()


def success() -> Obj:
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}


def exit_code(code: int) -> Obj:
    """The Status of a command that ended with a code other than 0."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with exit code {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


def failure(message: str, reason: str, code: int) -> Obj:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }
