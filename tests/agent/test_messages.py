"""What a container leaves behind as its message."""

from pathlib import Path

from kubelite.agent import messages
from kubelite.agent.observation import MESSAGE_POLICY_ANNOTATION
from tests.agent.pods import exited

FALLBACK = {MESSAGE_POLICY_ANNOTATION: "FallbackToLogsOnError"}


def line(text: str, tag: str = "F") -> str:
    return f"2026-01-01T00:00:00Z stdout {tag} {text}\n"


def test_the_end_of_the_file_is_the_message_whatever_the_code(tmp_path: Path) -> None:
    file = tmp_path / "message"
    file.write_text("beginning" + "x" * 4093 + "end")
    for code in (0, 1):
        assert messages.read(exited("c", code), file, tmp_path / "none") == "x" * 4093 + "end"


def test_a_container_that_failed_without_a_message_may_fall_back_to_its_log(tmp_path: Path) -> None:
    log = tmp_path / "0.log"
    log.write_text("".join(line(f"line {n}") for n in range(100)) + line("half ", "P") + line("whole"))
    assert messages.read(exited("c", 1), tmp_path / "none", log) == ""
    assert messages.read(exited("c", 0, annotations=FALLBACK), tmp_path / "none", log) == ""
    found = messages.read(exited("c", 1, annotations=FALLBACK), tmp_path / "none", log)
    assert found.startswith("line 22\n")
    assert found.endswith("line 99\nhalf whole\n")


def test_of_a_log_only_the_end_is_taken(tmp_path: Path) -> None:
    log = tmp_path / "0.log"
    log.write_text("".join(line("x" * 99) for _ in range(80)))
    assert len(messages.read(exited("c", 1, annotations=FALLBACK), tmp_path / "none", log)) == 2048
