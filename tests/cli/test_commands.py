"""The command line: options, files, and errors that say what to do."""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from kubelite.auth.pki import Authority
from kubelite.cli import commands, options, quick
from kubelite.cli.options import Problem
from kubelite.cli.tokens import parse_ttl
from kubelite.server.settings import SettingsError


def kubelite(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "kubelite", *words], capture_output=True, text=True, timeout=60, check=False)


def test_the_version_is_printed_at_once():
    process = subprocess.Popen([sys.executable, "-m", "kubelite", "version"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.read() == "kubelite 0.1.0 (Kubernetes v1.34.3)\n"
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    # This process' own time, for the clock's is others' too; 0.04 s. What this guards against is importing the world.
    assert usage.ru_utime + usage.ru_stime < 0.25


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


def test_a_file_may_say_everything_the_command_line_can(tmp_path):
    file = tmp_path / "config.yaml"
    for names in quick.OPTIONS.values():
        file.write_text("".join(f"{name}:\n" for name in names if name != "config"))
        assert options.settings({"config": str(file)}) == options.settings({})
    file.write_text("log-format: json\nlog-level: error\nnode-port-range: 31000-31999\n")
    settings = options.settings({"config": str(file)})
    assert (settings.log_format, settings.log_level, settings.node_port_range) == ("json", "error", (31000, 31999))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nonsense: 1", "unknown option 'nonsense'"),
        ("- a", "expected options"),
        ("{", "is not YAML"),
        ("https-port: x", "must be a number"),
        ("https-port: true", "must be a number"),
        ("cluster-cidr: 5", "must be a text"),
        ("images: [a]", "must be a text"),
        ("runtime: 5", "must be one of auto, containerd"),
        ("disable: 5", "must be a name or a list of names"),
        ("audit-log: maybe", "must be true or false"),
        ("eviction-hard: {memory.available: 1Gi}", "must be a text"),
        ("eviction-hard: memory.available<0", "give a quantity above zero"),
        ("node-port-range: 5", "must be two ports such as 30000-32767"),
        ("node-port-range: 5-1", "must be two ports"),
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
        (("kubeconfig",), "start a server here with `kubelite up`"),
        (("token", "create"), "or name its --data-dir"),
        (("image", "import", "/nonsense.tar"), "/nonsense.tar is not there"),
        (("image", "import", "/"), "is a directory: name the archives in it"),
        (("image", "list", "--runtime", "fake"), "see `kubelite check`"),
        (("up", "--runtime", "docker"), "not built yet: use containerd or fake"),
        (("agent", "--runtime", "cri"), "not built yet: use containerd or fake"),
        (("up", "--runtime-endpoint", "/nonsense.sock"), "start containerd, or leave out --runtime-endpoint"),
        (("up", "--runtime", "fake", "--bind", "192.0.2.77", "--https-port", "0"), "give an address of this machine with --bind"),
        (("agent", "--runtime", "fake", "--server", "https://127.0.0.1:99999", "--token", "x"), "give it as https://HOST:PORT"),
        (("agent", "--runtime", "fake", "--server", "https://127.0.0.1:9", "--token", "x"), "is the server running"),
    ],
)
def test_errors_say_what_to_do_next(tmp_path, words, said):
    result = kubelite(*words, "--data-dir", str(tmp_path / "none"))
    assert result.returncode == 1
    assert said in result.stderr
    assert result.stderr.count("\n") == 1, "one message and nothing around it"


@pytest.mark.parametrize("words", [("up", "--runtime", "fake"), ("reset", "--yes"), ("kubeconfig",), ("token", "list")])
def test_a_data_directory_that_is_a_file_is_told(tmp_path, words):
    (tmp_path / "file").write_text("x")
    result = kubelite(*words, "--data-dir", str(tmp_path / "file"))
    assert result.returncode == 1
    assert result.stderr.startswith("kubelite: ")
    assert str(tmp_path / "file") in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_kubeconfig_that_is_none_and_a_server_that_is_away_are_told(tmp_path):
    file = tmp_path / "kubeconfig"
    file.write_text("nonsense")
    assert "start the server again" in kubelite("token", "list", "--data-dir", str(tmp_path)).stderr
    authority = base64.b64encode(Authority.load_or_create(tmp_path / "pki").certificate_pem).decode()
    cluster = {"server": "https://127.0.0.1:9", "certificate-authority-data": authority}
    file.write_text(json.dumps({"clusters": [{"cluster": cluster}], "users": [{"user": admin_user(tmp_path / "pki")}]}))
    result = kubelite("token", "list", "--data-dir", str(tmp_path))
    assert (result.returncode, result.stdout) == (1, "")
    assert "https://127.0.0.1:9 does not answer: start it" in result.stderr


def admin_user(pki: Path) -> dict[str, str]:
    pair = Authority.load_or_create(pki).client_certificate("admin", ("system:masters",))
    return {
        "client-certificate-data": base64.b64encode(pair.certificate_pem).decode(),
        "client-key-data": base64.b64encode(pair.key_pem).decode(),
    }


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
    from tests.bench.cluster import free_port

    port = free_port()
    grpc_port = port + 1
    words = ["up", "--runtime", "fake", "--data-dir", str(tmp_path / "d"), "--https-port", str(port)]
    words += ["--grpc-port", str(grpc_port), "--bind", "127.0.0.1"]
    process = subprocess.Popen([sys.executable, "-m", "kubelite", *words], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if "simulated" in line:
            break
    assert f"export KUBECONFIG={tmp_path / 'd' / 'kubeconfig'}\n  kubectl get nodes" in said
    second = kubelite(*words)
    assert second.returncode == 1
    assert f"is in use by pid {process.pid}" in second.stderr
    token = kubelite("token", "create", "--data-dir", str(tmp_path / "d"), "--description", "mine").stdout.strip()
    listed = kubelite("token", "list", "--data-dir", str(tmp_path / "d")).stdout
    assert "mine" in listed
    assert token.partition("@")[0].partition(".")[2] not in listed  # the secret half
    assert kubelite("token", "revoke", token, "--data-dir", str(tmp_path / "d")).returncode == 0
    agent = ["agent", "--server", f"https://127.0.0.1:{port}", "--token", token, "--runtime", "fake", "--data-dir", str(tmp_path)]
    assert "make a new one with `kubelite token create`" in kubelite(*agent).stderr
    words[words.index("--data-dir") + 1] = str(tmp_path / "other")
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in kubelite(*words).stderr
    words[words.index("--https-port") + 1] = "0"
    taken = kubelite(*words)
    assert f"127.0.0.1:{grpc_port} for nodes: Address already in use" in taken.stderr
    assert "--grpc-port" in taken.stderr
    for _ in range(2):  # as `timeout` does, which tells the process and then its group: one wish
        process.terminate()
    assert process.wait(30) == 0
    assert "server_stopped" in process.stderr.read()
    process.stderr.close()
