"""Checks of certificate signing requests.

Source: kubernetes pkg/apis/certificates/validation/validation.go, v1.34.
"""

import base64
import re

from kubelite.meta import errors, names
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj

_USAGES = (
    *("any", "cert sign", "client auth", "code signing", "content commitment", "crl sign", "data encipherment"),
    *("decipher only", "digital signature", "email protection", "encipher only", "ipsec end system", "ipsec tunnel"),
    *("ipsec user", "key agreement", "key encipherment", "microsoft sgc", "netscape sgc", "ocsp signing", "s/mime"),
    *("server auth", "signing", "timestamping", "ipsec user"),
)
MIN_SECONDS = 600
_PEM = re.compile(rb"-----BEGIN ([^\n]*?)-----\s*\n(.*?)\n?-----END \1-----", re.DOTALL)


def check_request(obj: Obj) -> list[Cause]:
    spec = obj.get("spec") or {}
    causes = _check_body(spec.get("request"))
    usages = spec.get("usages") or []
    if not usages:
        causes.append(errors.required("spec.usages"))
    for index, usage in enumerate(usages):
        if usage not in _USAGES:
            causes.append(errors.not_supported(f"spec.usages[{index}]", usage, set(_USAGES)))
        if usage in usages[:index]:
            causes.append(errors.duplicate(f"spec.usages[{index}]", usage))
    signer = spec.get("signerName") or ""
    if signer == "kubernetes.io/legacy-unknown":
        causes.append(errors.invalid("spec.signerName", signer, "the legacy signerName is not allowed via this API version"))
    else:
        causes += check_signer_name(signer, "spec.signerName")
    life_s = spec.get("expirationSeconds")
    if life_s is not None and life_s < MIN_SECONDS:
        text = f"may not specify a duration less than {MIN_SECONDS} seconds (10 minutes)"
        causes.append(errors.invalid("spec.expirationSeconds", life_s, text))
    return causes


def _check_body(text: str | None) -> list[Cause]:
    """A PEM block of a signing request that can be read and is signed; whether to sign it is for its signer to say."""
    block = _PEM.search(base64.b64decode(text or ""))
    if block is None or block[1] != b"CERTIFICATE REQUEST":
        return [errors.invalid("spec.request", text, "PEM block type must be CERTIFICATE REQUEST")]
    from cryptography import x509  # loads with the first request

    try:
        signed = x509.load_der_x509_csr(base64.b64decode(block[2])).is_signature_valid
    except ValueError as e:
        text_of = "syntax error: data truncated" if "ShortData" in str(e) else str(e)
        return [errors.invalid("spec.request", text, f"asn1: {text_of}")]
    return [] if signed else [errors.invalid("spec.request", text, "x509: verification failure")]


def _certificate_fault(text: str) -> str:
    """Why a text isn't the certificates that a signer issued; empty where it is."""
    from cryptography import x509

    blocks = _PEM.findall(base64.b64decode(text))
    for kind, body in blocks:
        if kind != b"CERTIFICATE":
            return f'only CERTIFICATE PEM blocks are allowed, found "{kind.decode(errors="replace")}"'
        if b":" in body:
            return "no PEM block headers are permitted"
        try:
            x509.load_der_x509_certificate(base64.b64decode(body))
        except ValueError as e:
            return f"x509: {e}"
    return "" if blocks else "must contain at least one CERTIFICATE PEM block"


def check_signer_name(name: str, path: str) -> list[Cause]:
    """`domain/path`, the domain with a dot."""
    if not name:
        return [errors.required(path)]
    domain, slash, rest = name.partition("/")
    if not slash or not domain or not rest or "/" in rest:
        text = "must be a fully qualified domain and path of the form 'example.com/signer-name'"
        return [errors.invalid(path, name, text)]
    causes = [errors.invalid(path, domain, text) for text in names.dns1123_subdomain(domain)]
    if not causes and "." not in domain:
        causes.append(errors.invalid(path, domain, "should be a domain with at least two segments separated by dots"))
    for part in rest.split("."):
        causes += [errors.invalid(path, name, f'validating label "{part}": {text}') for text in names.dns1123_label(part)]
    return causes


def check_update(new: Obj, old: Obj, subresource: str) -> list[Cause]:
    """Who decides goes through `approval`, who signs through `status`; neither takes back what was decided."""
    causes: list[Cause] = []
    conditions = (new.get("status") or {}).get("conditions") or []
    before = (old.get("status") or {}).get("conditions") or []
    types = [c.get("type") for c in conditions]
    path = "status.conditions"
    for index, condition in enumerate(conditions):
        kind, status = condition.get("type", ""), condition.get("status", "")
        if not kind:
            causes.append(errors.required(f"{path}[{index}].type"))
        if not status:
            causes.append(errors.required(f"{path}[{index}].status"))
        elif kind in ("Approved", "Denied", "Failed") and status != "True":
            causes.append(errors.not_supported(f"{path}[{index}].status", status, ("True",)))
        elif status not in ("True", "False", "Unknown"):
            causes.append(errors.not_supported(f"{path}[{index}].status", status, ("True", "False", "Unknown")))
        if kind in types[:index]:
            causes.append(errors.duplicate(f"{path}[{index}].type", kind))
        if {"Approved": "Denied", "Denied": "Approved"}.get(kind) in types[:index]:
            text = "Approved and Denied conditions are mutually exclusive"
            causes.append(errors.invalid(path, kind, text))
    for kind in ("Approved", "Denied", "Failed"):
        now, was = _of_type(conditions, kind), _of_type(before, kind)
        if len(now) < len(was):
            causes.append(errors.forbidden(path, f'updates may not remove a condition of type "{kind}"'))
        elif subresource != "approval" and kind != "Failed" and len(now) > len(was):
            causes.append(errors.forbidden(path, f'updates may not add a condition of type "{kind}"'))
        elif subresource != "approval" and kind != "Failed" and now != was:
            causes.append(errors.forbidden(path, f'updates may not modify a condition of type "{kind}"'))
    now, was = ((obj.get("status") or {}).get("certificate", "") for obj in (new, old))
    if now and now != was:
        fault = _certificate_fault(now)
        causes += [errors.invalid("status.certificate", "<certificate data>", fault)] if fault else []
    if was and now != was:
        causes.append(errors.forbidden("status.certificate", "updates may not modify existing certificate content"))
    return causes


def _of_type(conditions: list[Obj], kind: str) -> list[Obj]:
    return [condition for condition in conditions if condition.get("type") == kind]
