"""What names, labels and keys may look like, and names made up by the server.

A check returns the texts of what is wrong, none when the value is fine, so that callers can put them into field errors.

Source: apimachinery pkg/util/validation, pkg/api/validation and apiserver pkg/storage/names, v0.34 (formats and limits).
"""

import random
import re
from functools import lru_cache

LABEL_MAX = 63
SUBDOMAIN_MAX = 253
#: A generated name's base is cut to this, so that it stays a DNS label with its suffix.
GENERATED_BASE_MAX = 58
#: The letters of random suffixes and safe hashes: no vowels and no digits that look like them.
SAFE_LETTERS = "bcdfghjklmnpqrstvwxz2456789"

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_SEARCH = r"_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*"
_LABEL_1035 = "[a-z]([-a-z0-9]*[a-z0-9])?"
_QUALIFIED = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_LABEL_VALUE = f"({_QUALIFIED})?"
_CONFIG_KEY = "[-._a-zA-Z0-9]+"
_C_IDENTIFIER = "[A-Za-z_][A-Za-z0-9_]*"
_HTTP_HEADER_NAME = "[-A-Za-z0-9]+"
_REASON = "[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?"

_is_label = re.compile(_LABEL).fullmatch
_is_subdomain = re.compile(_SUBDOMAIN).fullmatch
_is_search = re.compile(_SEARCH).fullmatch
_is_label_1035 = re.compile(_LABEL_1035).fullmatch
_is_qualified = re.compile(_QUALIFIED).fullmatch
_is_config_key = re.compile(_CONFIG_KEY).fullmatch
_is_c_identifier = re.compile(_C_IDENTIFIER).fullmatch
_is_http_header_name = re.compile(_HTTP_HEADER_NAME).fullmatch
_is_reason = re.compile(_REASON).fullmatch
_is_port_name = re.compile("[-a-z0-9]+").fullmatch
_has_letter = re.compile("[a-z]").search


def format_faults(text: str, pattern: str, *examples: str) -> str:
    """The text of a value that misses a pattern, as all such texts in Kubernetes are built."""
    if not examples:
        return f"{text} (regex used for validation is '{pattern}')"
    listed = " or ".join(f"'{example}', " for example in examples)
    return f"{text} (e.g. {listed}regex used for validation is '{pattern}')"


def too_long(limit: int) -> str:
    return f"must be no more than {limit} characters"


def dns1123_label(value: str) -> list[str]:
    """Faults of a namespace's or a container's name."""
    faults = [too_long(LABEL_MAX)] if len(value) > LABEL_MAX else []
    if not _is_label(value):
        if _is_subdomain(value):
            faults.append("must not contain dots")
        else:
            faults.append(
                format_faults(
                    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and "
                    "end with an alphanumeric character",
                    _LABEL,
                    "my-name",
                    "123-abc",
                )
            )
    return faults


def dns1123_subdomain(value: str) -> list[str]:
    """Faults of most objects' names."""
    faults = [too_long(SUBDOMAIN_MAX)] if len(value) > SUBDOMAIN_MAX else []
    if not _is_subdomain(value):
        faults.append(
            format_faults(
                "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start "
                "and end with an alphanumeric character",
                _SUBDOMAIN,
                "example.com",
            )
        )
    return faults


def dns1123_search(value: str) -> list[str]:
    """Faults of a domain that a resolver searches, in which labels may have underscores."""
    faults = [too_long(SUBDOMAIN_MAX)] if len(value) > SUBDOMAIN_MAX else []
    if not _is_search(value):
        faults.append(
            format_faults(
                "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must "
                "start and end with an alphanumeric character",
                _SEARCH,
                "example.com",
            )
        )
    return faults


def dns1035_label(value: str) -> list[str]:
    """Faults of a service's name."""
    faults = [too_long(LABEL_MAX)] if len(value) > LABEL_MAX else []
    if not _is_label_1035(value):
        faults.append(
            format_faults(
                "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic "
                "character, and end with an alphanumeric character",
                _LABEL_1035,
                "my-name",
                "abc-123",
            )
        )
    return faults


def wildcard_dns1123_subdomain(value: str) -> list[str]:
    """Faults of an ingress's host with a wildcard."""
    faults = [too_long(SUBDOMAIN_MAX)] if len(value) > SUBDOMAIN_MAX else []
    if not (value.startswith("*.") and _is_subdomain(value[2:])):
        faults.append(
            format_faults(
                "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of "
                "lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character",
                rf"\*\.{_SUBDOMAIN}",
                "*.example.com",
            )
        )
    return faults


def path_segment(value: str, prefix: bool = False) -> list[str]:
    """Faults of a name that only has to be one segment of a URL, such as an RBAC role's."""
    if not prefix and value in (".", ".."):
        return [f"may not be '{value}'"]
    return [f"may not contain '{part}'" for part in ("/", "%") if part in value]


@lru_cache(maxsize=8192)
def qualified_name(value: str) -> tuple[str, ...]:
    """Faults of a label's, annotation's or extended resource's key: `[subdomain/]name`. They repeat without end."""
    prefix, slash, name = value.rpartition("/")
    expected = format_faults(
        "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
        _QUALIFIED,
        "MyName",
        "my.name",
        "123-abc",
    )
    if "/" in prefix:
        return (f"a qualified name {expected} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",)
    faults = []
    if slash:
        if not prefix:
            faults.append("prefix part must be non-empty")
        else:
            faults += [f"prefix part {fault}" for fault in dns1123_subdomain(prefix)]
    if not name:
        faults.append("name part must be non-empty")
    elif len(name) > LABEL_MAX:
        faults.append(f"name part {too_long(LABEL_MAX)}")
    if not _is_qualified(name):
        faults.append(f"name part {expected}")
    return tuple(faults)


@lru_cache(maxsize=8192)
def label_value(value: str) -> tuple[str, ...]:
    faults = [too_long(LABEL_MAX)] if len(value) > LABEL_MAX else []
    if value and not _is_qualified(value):
        faults.append(
            format_faults(
                "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start "
                "and end with an alphanumeric character",
                _LABEL_VALUE,
                "MyValue",
                "my_value",
                "12345",
            )
        )
    return tuple(faults)


def config_key(value: str) -> list[str]:
    """Faults of a key of a ConfigMap or a Secret."""
    faults = [too_long(SUBDOMAIN_MAX)] if len(value) > SUBDOMAIN_MAX else []
    if not _is_config_key(value):
        faults.append(
            format_faults(
                "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
                _CONFIG_KEY,
                "key.name",
                "KEY_NAME",
                "key-name",
            )
        )
    if value in (".", ".."):
        faults.append(f"must not be '{value}'")
    elif value.startswith(".."):
        faults.append("must not start with '..'")
    return faults


def c_identifier(value: str) -> list[str]:
    if _is_c_identifier(value):
        return []
    text = (
        "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_'"
    )
    return [format_faults(text, _C_IDENTIFIER, "my_name", "MY_NAME", "MyName")]


def condition_reason(value: str) -> list[str]:
    if _is_reason(value):
        return []
    text = (
        "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric characters or "
        "'_,:', and must end with an alphanumeric character or '_'"
    )
    return [format_faults(text, _REASON, "my_name", "MY_NAME", "MyName", "ReasonA,ReasonB", "ReasonA:ReasonB")]


def env_var_name(value: str) -> list[str]:
    """Faults of an environment variable's name: printable ASCII without `=` since 1.34."""
    if not value:
        return ["environment variable name must be non-empty"]
    if any(not " " <= letter <= "~" or letter == "=" for letter in value):
        return ["a valid environment variable name must consist only of printable ASCII characters other than '='"]
    return []


def http_header_name(value: str) -> list[str]:
    if _is_http_header_name(value):
        return []
    return [
        format_faults("a valid HTTP header must consist of alphanumeric characters or '-'", _HTTP_HEADER_NAME, "X-Header-Name")
    ]


def port_name(value: str) -> list[str]:
    """Faults of a container port's name, an IANA service name."""
    faults = []
    if len(value) > 15:
        faults.append("must be no more than 15 characters")
    if not _is_port_name(value):
        faults.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not _has_letter(value):
        faults.append("must contain at least one letter (a-z)")
    if "--" in value:
        faults.append("must not contain consecutive hyphens")
    if value and (value[0] == "-" or value[-1] == "-"):
        faults.append("must not begin or end with a hyphen")
    return faults


def port_number(value: int) -> list[str]:
    return [] if 1 <= value <= 65535 else ["must be between 1 and 65535, inclusive"]


def random_suffix(length: int = 5) -> str:
    # Names are no secrets, and every generated one and every pod passes here: this takes a tenth of what `secrets` does.
    return "".join(random.choices(SAFE_LETTERS, k=length))


def generate_name(base: str) -> str:
    """A name for an object that was sent with `generateName` only."""
    return base[:GENERATED_BASE_MAX] + random_suffix()


def is_native_resource(name: str) -> bool:
    """Whether a resource is Kubernetes' own."""
    return "/" not in name or "kubernetes.io/" in name


def is_extended_resource(name: str) -> bool:
    """Whether devices of a domain other than Kubernetes' are counted by this name, in quotas too."""
    return not is_native_resource(name) and not name.startswith("requests.") and not qualified_name(f"requests.{name}")
