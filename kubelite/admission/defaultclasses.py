"""Which class is the default one, of storage and of ingresses. Pure; the plugins and the controller of volumes ask it.

Source: pkg/volume/util/storageclass.go, plugin/pkg/admission/network/defaultingressclass, v1.34.
"""

from collections.abc import Iterable, Sequence

from kubelite.meta.types import Obj

STORAGE = ("storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class")
INGRESS = ("ingressclass.kubernetes.io/is-default-class",)


def find(classes: Iterable[Obj], annotations: Sequence[str]) -> Obj | None:
    """The newest of the classes that an annotation marks as the default; of equally old ones the first by name."""
    marked = [c for c in classes if any((c["metadata"].get("annotations") or {}).get(a) == "true" for a in annotations)]
    if not marked:
        return None
    newest = max(c["metadata"].get("creationTimestamp", "") for c in marked)
    return min(
        (c for c in marked if c["metadata"].get("creationTimestamp", "") == newest), key=lambda c: str(c["metadata"]["name"])
    )
