"""The command line: options, files, and errors that say what to do."""

import subprocess
import sys
import time

import pytest
from typer.main import get_command

from kubelite.cli import commands, options, quick
from kubelite.cli.options import Problem
from kubelite.cli.tokens import parse_ttl
from kubelite.server.settings import SettingsError


def kubelite(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "kubelite", *words], capture_output=True, text=True, timeout=60, check=False)


def test_the_version_is_printed_at_once():
    best = 10.0
    for _ in range(3):
        began = time.perf_counter()
        result = kubelite("version")
        best = min(best, time.perf_counter() - began)
    assert result.stdout == "kubelite 0.1.0 (Kubernetes v1.34.3)\n"
    assert best < 1.0  # 0.04 s where nothing else runs; what this guards against is importing the world


def test_the_quick_parser_knows_the_same_options_as_the_full_one():
    for name, command in get_command(commands.app).commands.items():  # type: ignore[attr-defined]
        if name in quick.OPTIONS:
            declared = {o.removeprefix("--") for p in command.params for o in p.opts}
            assert declared == set(quick.OPTIONS[name]), name


def test_plain_options_are_parsed_quickly():
    words = ["up", "--https-port", "7443", "--disable=dns,proxy", "--disable", "scheduler", "--registries", "/r"]
    command, given = quick.parse(words)
    assert command == "up"
    assert given == {"https_port": 7443, "disable": ["dns,proxy", "scheduler"], "registries_dir": "/r"}
    assert options.settings(given).disable == {"dns", "proxy", "scheduler"}


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["version"],
        ["up", "--help"],
        ["up", "--https-port"],
        ["up", "--https-port", "x"],
        ["server", "--runtime", "fake"],
        ["up", "x"],
    ],
)
def test_whatever_is_not_plain_is_left_to_the_full_parser(words):
    assert quick.parse(words) is None


def test_a_file_gives_options_and_the_command_line_wins(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("https-port: 7443\nservice-cidr: 10.1.0.0/16\ndisable: [dns]\nregistries: /r\n")
    settings = options.settings({"config": str(file), "https_port": 8443})
    assert (settings.https_port, settings.service_cidr, settings.disable) == (8443, "10.1.0.0/16", {"dns"})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nonsense: 1", "unknown option 'nonsense'"),
        ("- a", "expected options"),
        ("{", "is not YAML"),
        ("https-port: x", "must be a number"),
    ],
)
def test_a_bad_file_is_explained(tmp_path, text, words):
    file = tmp_path / "config.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=words):
        options.settings({"config": str(file)})


def test_a_missing_file_is_explained(tmp_path):
    with pytest.raises(SettingsError, match="give a readable YAML file"):
        options.settings({"config": str(tmp_path / "none")})


@pytest.mark.parametrize(("text", "seconds"), [("30m", 1800), ("24h", 86400), ("7d", 604800), ("0", None)])
def test_lifetimes_are_numbers_with_units(text, seconds):
    found = parse_ttl(text)
    assert (found.total_seconds() if found else None) == seconds


@pytest.mark.parametrize("text", ["", "5", "-1h", "0h", "one day"])
def test_other_lifetimes_are_refused(text):
    with pytest.raises(Problem, match="give a number and a unit"):
        parse_ttl(text)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("kubeconfig",), "start a server with `kubelite up`"),
        (("token", "create"), "run this where the server runs"),
        (("image", "import", "/nonsense.tar"), "there is no file /nonsense.tar"),
    ],
)
def test_errors_say_what_to_do_next(tmp_path, words, said):
    result = kubelite(*words, "--data-dir", str(tmp_path / "none"))
    assert result.returncode == 1
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_an_agent_without_a_server_says_what_it_needs(tmp_path):
    result = kubelite("agent", "--data-dir", str(tmp_path))
    assert result.returncode == 1
    assert "--server is needed" in result.stderr


def test_a_directory_that_is_not_ours_is_not_removed(tmp_path):
    (tmp_path / "precious").write_text("x")
    result = kubelite("reset", "--data-dir", str(tmp_path), "--yes")
    assert result.returncode == 1
    assert "nothing is removed" in result.stderr
    assert (tmp_path / "precious").exists()


@pytest.mark.slow
def test_a_cluster_runs_until_it_is_told_to_end_and_is_alone_with_its_data(tmp_path):
    from tests.bench.cluster import free_ports

    port, grpc_port = free_ports(2)
    words = ["up", "--runtime", "fake", "--data-dir", str(tmp_path / "d"), "--https-port", str(port)]
    words += ["--grpc-port", str(grpc_port), "--bind", "127.0.0.1"]
    process = subprocess.Popen([sys.executable, "-m", "kubelite", *words], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if "server_ready" in line:
            break
    second = kubelite(*words)
    assert second.returncode == 1
    assert f"is in use by pid {process.pid}" in second.stderr
    token = kubelite("token", "create", "--data-dir", str(tmp_path / "d"), "--description", "mine").stdout.strip()
    listed = kubelite("token", "list", "--data-dir", str(tmp_path / "d")).stdout
    assert "mine" in listed
    assert token.partition("@")[0].partition(".")[2] not in listed  # the secret half
    assert kubelite("token", "revoke", token, "--data-dir", str(tmp_path / "d")).returncode == 0
    process.terminate()
    assert process.wait(30) == 0
    process.stderr.close()
