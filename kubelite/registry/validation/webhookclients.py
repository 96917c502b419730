"""How a webhook is reached: a URL or a service, and the certificates that it is known by.

Source: apiserver pkg/util/webhook/validation.go and client-go transport, v0.34.
"""

import base64
import re
from collections.abc import Iterator

from kubelite.meta import errors, names, urls
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj

_FORM = "; desired format: https://host[/path]"
_BLOCK = re.compile(rb"-----BEGIN CERTIFICATE-----\s*\n([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----")


def client_faults(config: Obj, path: str) -> list[Cause]:
    """What is wrong with a client's configuration, but for its certificates."""
    url, service = config.get("url"), config.get("service")
    if (url is None) == (service is None):
        return [errors.required(path, "exactly one of url or service is required")]
    return list(_service_faults(service, f"{path}.service") if service is not None else _url_faults(url or "", f"{path}.url"))


def _url_faults(url: str, path: str) -> Iterator[Cause]:
    try:
        parts = urls.parse(url)
    except ValueError as error:
        yield errors.required(path, f"url must be a valid URL: {error}{_FORM}")
        return
    if parts.scheme != "https":
        yield errors.invalid(path, parts.scheme, f"'https' is the only allowed URL scheme{_FORM}")
    if not parts.host:
        yield errors.invalid(path, "", f"host must be specified{_FORM}")
    if parts.user is not None:
        yield errors.invalid(path, parts.user, "user information is not permitted in the URL")
    if parts.fragment:
        yield errors.invalid(path, parts.fragment, "fragments are not permitted in the URL")
    if parts.query:
        yield errors.invalid(path, parts.query, "query parameters are not permitted in the URL")


def _service_faults(service: Obj, path: str) -> Iterator[Cause]:
    # the real server takes the one for the other
    for field, taken in (("name", "namespace"), ("namespace", "name")):
        if not service.get(taken):
            yield errors.required(f"{path}.{field}")
    port, url_path = service.get("port", 443), service.get("path") or "/"
    faults = names.port_number(port)
    if faults:
        yield errors.invalid(f"{path}.port", port, f"port is not valid: {', '.join(faults)}")
    if url_path == "/":
        return
    at = f"{path}.path"
    if url_path == "//":
        yield errors.invalid(at, url_path, "segment[0] may not be empty")
        return
    if not url_path.startswith("/"):
        yield errors.invalid(at, url_path, "must start with a '/'")
    for number, step in enumerate(url_path[1:].removesuffix("/").split("/")):
        if not step:
            yield errors.invalid(at, url_path, f"segment[{number}] may not be empty")
            continue
        for fault in names.dns1123_subdomain(step):
            yield errors.invalid(at, url_path, f"segment[{number}]: {fault}")


def bundle_faults(bundle: str, path: str) -> list[Cause]:
    """What is wrong with a bundle of certificates, base64 of PEM; there is one at least."""
    found = _BLOCK.findall(base64.b64decode(bundle))
    fault = "" if found else "unable to parse bytes as PEM block"
    if found and not any(map(_is_certificate, found)):
        fault = "failed to parse certificate"
    return [errors.invalid(path, bundle, f"unable to load root certificates: {fault}")] if fault else []


def _is_certificate(encoded: bytes) -> bool:
    from cryptography import x509  # loads with the first bundle

    try:
        x509.load_der_x509_certificate(base64.b64decode(encoded))
    except ValueError:
        return False
    return True
