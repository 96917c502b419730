"""Every flaw that applies has a test named after it, here or beside the code that it is about."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]

FLAWS = (
    "CVE-2017-1002101",
    "CVE-2018-1002102",
    "CVE-2018-1002105",
    "CVE-2019-1002100",
    "CVE-2019-11247",
    "CVE-2019-11253",
    "CVE-2019-11254",
    "CVE-2020-8552",
    "CVE-2020-8554",
    "CVE-2020-8559",
    "CVE-2020-8561",
    "CVE-2020-8562",
    "CVE-2021-25735",
    "CVE-2021-25740",
    "CVE-2021-25741",
    "CVE-2022-3162",
    "CVE-2022-3172",
    "CVE-2022-3294",
    "CVE-2023-2431",
    "CVE-2023-2728",
    "CVE-2023-44487",
    "CVE-2024-10220",
    "CVE-2024-3177",
    "CVE-2025-1767",
    "CVE-2025-5187",
    "CVE-2025-13281",
)


def flaws_with_tests() -> set[str]:
    roots = (TESTS, TESTS.parent / "runtimes")  # the runtimes' shared suite is beside them
    files = [file for root in roots for file in root.rglob("*.py")]
    definitions = (re.findall(r"^\s*(?:async )?def (test_\w+)", file.read_text(), re.MULTILINE) for file in files)
    text = " ".join(name for names in definitions for name in names)
    return {f"CVE-{year}-{number}" for year, number in re.findall(r"cve_(\d{4})_(\d+)", text, re.IGNORECASE)}


@pytest.mark.parametrize("flaw", FLAWS)
def test_a_test_is_named_after_the_flaw(flaw: str) -> None:
    assert flaw in flaws_with_tests()
