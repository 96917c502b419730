"""Importing an image archive through containerd's own API: blobs into its content store, then names for them.

A lease keeps new blobs from its garbage collector until a name refers to them; labels on a blob tell the collector what it refers
to. The CRI plugin notices the names by itself and unpacks an image when a container first needs it.
"""

import asyncio
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc

from runtimes import archives
from runtimes.containerd.calls import answer, fault
from runtimes.interface import RuntimeFault
from runtimes.rpc import containerd_content_pb2 as content_pb
from runtimes.rpc import containerd_content_pb2_grpc as content_grpc
from runtimes.rpc import containerd_images_pb2 as images_pb
from runtimes.rpc import containerd_images_pb2_grpc as images_grpc
from runtimes.rpc import containerd_leases_pb2 as leases_pb
from runtimes.rpc import containerd_leases_pb2_grpc as leases_grpc
from runtimes.rpc import containerd_types_pb2 as types_pb

#: The namespace that the CRI plugin keeps its things in.
NAMESPACE = "k8s.io"
_EXPIRY_S = 3600


async def import_archive(channel: grpc.aio.Channel, socket: str, archive: AsyncIterator[bytes], spool_dir: Path) -> list[str]:
    """The names that the archive brought.

    Raises: RuntimeFault when it cannot be read.
    """
    in_namespace = (("containerd-namespace", NAMESPACE),)
    leases = leases_grpc.LeasesStub(channel)  # type: ignore[no-untyped-call]
    images = images_grpc.ImagesStub(channel)  # type: ignore[no-untyped-call]
    with tempfile.TemporaryFile(dir=spool_dir, prefix=".import-") as file:
        await archives.spool(archive, file)
        with archives.opened(file) as tar:
            opened = await asyncio.to_thread(archives.Archive, tar)
            contents = await asyncio.to_thread(opened.contents)
            lease = f"kubelite-import-{uuid.uuid4()}"
            expire = {"containerd.io/gc.expire": _expiry()}
            await answer(leases.Create(leases_pb.CreateRequest(id=lease, labels=expire), metadata=in_namespace), socket)
            try:
                leased = (*in_namespace, ("containerd-lease", lease))
                for blob in contents.blobs:
                    await _write(channel, socket, blob, opened.chunks(blob), leased)
                for name, blob in contents.names:
                    target = types_pb.Descriptor(media_type=blob.media_type, digest=blob.digest, size=blob.size_bytes)
                    await _name(images, socket, images_pb.Image(name=name, target=target), leased)
            finally:
                await answer(leases.Delete(leases_pb.DeleteRequest(id=lease), metadata=in_namespace), socket)
    return [name for name, _ in contents.names]


async def _write(
    channel: grpc.aio.Channel, socket: str, blob: archives.Blob, chunks: Iterator[bytes], metadata: tuple[tuple[str, str], ...]
) -> None:
    labels = {f"containerd.io/gc.ref.content.{kind}": digest for kind, digest in blob.children.items()}
    ref = f"kubelite-import-{blob.digest}"

    content = content_grpc.ContentStub(channel)  # type: ignore[no-untyped-call]
    call = content.Write(metadata=metadata)

    async def send(request: content_pb.WriteContentRequest) -> None:
        await call.write(request)
        if await call.read() is grpc.aio.EOF:
            await call.code()  # raises nothing: what went wrong is in the status
            raise RuntimeFault(f"containerd ended the import of {blob.digest}: {await call.details()}")

    try:
        # one at a time, because the first answer may be that it is there already
        await send(content_pb.WriteContentRequest(action=content_pb.STAT, ref=ref, total=blob.size_bytes, expected=blob.digest))
        offset = 0
        while chunk := await asyncio.to_thread(next, chunks, b""):
            await send(content_pb.WriteContentRequest(action=content_pb.WRITE, ref=ref, offset=offset, data=chunk))
            offset += len(chunk)
        commit = content_pb.WriteContentRequest(action=content_pb.COMMIT, ref=ref, offset=offset, total=blob.size_bytes)
        commit.expected = blob.digest
        commit.labels.update(labels)
        await send(commit)
    except grpc.aio.AioRpcError as e:
        if e.code() != grpc.StatusCode.ALREADY_EXISTS:
            raise fault(e, socket) from e
    finally:
        call.cancel()


async def _name(
    images: images_grpc.ImagesStub, socket: str, image: images_pb.Image, metadata: tuple[tuple[str, str], ...]
) -> None:
    try:
        await images.Create(images_pb.CreateImageRequest(image=image), metadata=metadata)
    except grpc.aio.AioRpcError as e:
        if e.code() != grpc.StatusCode.ALREADY_EXISTS:
            raise fault(e, socket) from e
        await answer(images.Update(images_pb.UpdateImageRequest(image=image), metadata=metadata), socket)


def _expiry() -> str:
    return (datetime.now(UTC) + timedelta(seconds=_EXPIRY_S)).strftime("%Y-%m-%dT%H:%M:%SZ")
