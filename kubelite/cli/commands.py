"""The commands and their options, as typer sees them.

What a command does lives in a module of its own and is imported when it runs. Options may also come from a YAML file
(`--config`) with the same names; what is given on the command line wins. The options of the commands that run a server or
an agent are listed once more in `quick`; a test holds the two together.
"""

import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

app = typer.Typer(
    name="kubelite",
    help="Kubernetes in one Python process.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # a default in brackets is text
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
token_app = typer.Typer(help="Tokens with which nodes join.", no_args_is_help=True)
image_app = typer.Typer(help="Images of this machine's container runtime.", no_args_is_help=True)
app.add_typer(token_app, name="token")
app.add_typer(image_app, name="image")


def _option(name: str, metavar: str, text: str, default: str = "") -> Any:
    """An option whose default is that of the settings, and told here."""
    return typer.Option(name, metavar=metavar, help=f"{text} [default: {default}]" if default else text)


DataDir = Annotated[Path | None, _option("--data-dir", "DIR", "Where everything is kept.", "/var/lib/kubelite as root")]
Port = Annotated[int | None, _option("--https-port", "PORT", "The API's port.", "6443")]
GrpcPort = Annotated[int | None, _option("--grpc-port", "PORT", "The nodes' port.", "the one after the API's")]
Bind = Annotated[str | None, _option("--bind", "ADDRESS", "The address to listen on.", "0.0.0.0")]
Advertise = Annotated[str | None, _option("--advertise-address", "ADDRESS", "Where others reach this server.", "found out")]
Runtime = Annotated[str | None, _option("--runtime", "NAME", "auto, containerd, docker, cri or fake.", "auto")]
Endpoint = Annotated[str | None, _option("--runtime-endpoint", "SOCKET", "A runtime that runs already.")]
NodeName = Annotated[str | None, _option("--node-name", "NAME", "This node's name.", "the host's")]
ClusterCidr = Annotated[str | None, _option("--cluster-cidr", "CIDR", "The pods' network.", "10.244.0.0/16")]
ServiceCidr = Annotated[str | None, _option("--service-cidr", "CIDR", "The services' network.", "10.96.0.0/16")]
Disable = Annotated[
    list[str] | None,
    _option("--disable", "NAME,...", "Leaves out scheduler, controllers, dns or proxy: another takes its place."),
]
AgentDisable = Annotated[list[str] | None, _option("--disable", "NAME,...", "Leaves out dns or proxy: another takes its place.")]
Config = Annotated[Path | None, _option("--config", "FILE", "A YAML file of these options' names.")]
LogFormat = Annotated[str | None, _option("--log-format", "FORM", "console or json.", "console")]
LogLevel = Annotated[str | None, _option("--log-level", "LEVEL", "debug, info, warning or error.", "info")]
Images = Annotated[Path | None, _option("--images", "PATH", "An image archive, or a directory of them, to import at the start.")]
Registries = Annotated[Path | None, _option("--registries", "DIR", "Registry mirrors.", "/etc/containerd/certs.d")]
EvictionHard = Annotated[
    str | None, _option("--eviction-hard", "SIGNAL<LEAST,...", "Evicts pods while there is less.", "memory.available<100Mi,...")
]
Nodes = Annotated[int | None, _option("--nodes", "N", "So many simulated nodes, with --runtime fake.", "1")]


@app.command()
def server(
    data_dir: DataDir = None,
    https_port: Port = None,
    grpc_port: GrpcPort = None,
    bind: Bind = None,
    advertise_address: Advertise = None,
    cluster_cidr: ClusterCidr = None,
    service_cidr: ServiceCidr = None,
    disable: Disable = None,
    config: Config = None,
    log_format: LogFormat = None,
    log_level: LogLevel = None,
) -> None:
    """Runs the control plane.

    That is the API server, the scheduler and the controllers, in one process."""
    _run("server", locals())


@app.command()
def agent(
    server: Annotated[str | None, _option("--server", "URL", "The server: https://HOST:PORT.")] = None,
    token: Annotated[str | None, _option("--token", "TOKEN", "From `kubelite token create`.")] = None,
    ca_hash: Annotated[str | None, _option("--ca-hash", "HASH", "The server's CA, where the token doesn't say.")] = None,
    data_dir: DataDir = None,
    node_name: NodeName = None,
    runtime: Runtime = None,
    runtime_endpoint: Endpoint = None,
    registries_dir: Registries = None,
    images: Images = None,
    eviction_hard: EvictionHard = None,
    disable: AgentDisable = None,
    config: Config = None,
    log_format: LogFormat = None,
    log_level: LogLevel = None,
) -> None:
    """Runs a node that joins a server."""
    _run("agent", locals())


@app.command()
def up(
    data_dir: DataDir = None,
    https_port: Port = None,
    grpc_port: GrpcPort = None,
    bind: Bind = None,
    advertise_address: Advertise = None,
    runtime: Runtime = None,
    runtime_endpoint: Endpoint = None,
    registries_dir: Registries = None,
    node_name: NodeName = None,
    nodes: Nodes = None,
    images: Images = None,
    eviction_hard: EvictionHard = None,
    cluster_cidr: ClusterCidr = None,
    service_cidr: ServiceCidr = None,
    disable: Disable = None,
    config: Config = None,
    log_format: LogFormat = None,
    log_level: LogLevel = None,
) -> None:
    """Runs a whole cluster here.

    The control plane and a node, in one process."""
    _run("up", locals())


@token_app.command("create")
def token_create(
    ttl: Annotated[str, _option("--ttl", "TIME", "How long it can be used: 30m, 24h, 0 for ever.", "24h")] = "24h",
    description: Annotated[str, _option("--description", "TEXT", "What it is for.")] = "",
    data_dir: DataDir = None,
) -> None:
    """Prints a new token.

    Its last line is what `kubelite agent --token` takes."""
    _admin("create_token", data_dir, ttl, description)


@token_app.command("list")
def token_list(data_dir: DataDir = None) -> None:
    """Lists the tokens, without their secrets."""
    _admin("list_tokens", data_dir)


@token_app.command("revoke")
def token_revoke(token: Annotated[str, typer.Argument(metavar="TOKEN")], data_dir: DataDir = None) -> None:
    """Takes a token back.

    It is named by its id, the part before the dot, or as a whole."""
    _admin("revoke_token", data_dir, token)


@image_app.command("import")
def image_import(
    archive: Annotated[list[Path], typer.Argument(metavar="ARCHIVE", help="OCI or Docker archives.")],
    data_dir: DataDir = None,
    runtime: Runtime = None,
    runtime_endpoint: Endpoint = None,
) -> None:
    """Brings images from archives into the runtime.

    No registry is needed."""
    from kubelite.cli import images

    _guarded(images.import_archives, archive, _settings({"data_dir": data_dir, **_runtime(runtime, runtime_endpoint)}))


@image_app.command("list")
def image_list(data_dir: DataDir = None, runtime: Runtime = None, runtime_endpoint: Endpoint = None) -> None:
    """Lists the images of this machine's runtime."""
    from kubelite.cli import images

    _guarded(images.list_images, _settings({"data_dir": data_dir, **_runtime(runtime, runtime_endpoint)}))


@app.command()
def kubeconfig(data_dir: DataDir = None) -> None:
    """Prints the administrator's kubeconfig.

    For example: kubelite kubeconfig > ~/.kube/config"""
    from kubelite.cli import tokens

    _guarded(tokens.print_kubeconfig, _settings({"data_dir": data_dir}))


@app.command()
def check(data_dir: DataDir = None) -> None:
    """Says what this machine lacks to run containers.

    For each runtime and for networking, and the command that mends it."""
    from kubelite.cli import machine

    raise typer.Exit(machine.check(_settings({"data_dir": data_dir})))


@app.command()
def reset(
    data_dir: DataDir = None,
    yes: Annotated[bool, typer.Option("--yes", help="Does not ask.")] = False,
) -> None:
    """Removes a node's containers and its data.

    Ends what a node left running here (containers, its containerd, its network) and removes its data directory."""
    from kubelite.cli import machine

    settings = _settings({"data_dir": data_dir})
    if not yes:
        typer.confirm(f"This removes {settings.data_dir} and ends every container of it. Go on?", abort=True)
    _guarded(machine.reset, settings)


@app.command()
def version() -> None:
    """Prints the versions.

    Of kubelite and of the Kubernetes API that it serves; `kubelite --version` does the same."""
    from kubelite.cli import quick

    quick.print_version()


def _runtime(runtime: str | None, endpoint: str | None) -> dict[str, Any]:
    return {"runtime": runtime, "runtime_endpoint": endpoint}


def _settings(given: dict[str, Any]) -> Any:
    from kubelite.cli import options
    from kubelite.server.settings import SettingsError

    try:
        return options.settings(given)
    except SettingsError as e:
        _fail(str(e))


def _run(command: str, given: dict[str, Any]) -> None:
    from kubelite.cli import run

    sys.exit(run.from_options(command, given))


def _admin(name: str, data_dir: Path | None, *arguments: Any) -> None:
    from kubelite.cli import tokens

    _guarded(getattr(tokens, name), _settings({"data_dir": data_dir}), *arguments)


def _guarded(function: Any, *arguments: Any) -> None:
    """Runs a command; what it can foresee going wrong ends in one line that says what to do."""
    from kubelite.cli import options

    try:
        function(*arguments)
    except Exception as e:
        if (message := options.explained(e)) is None:
            raise
        _fail(message)


def _fail(message: str) -> NoReturn:
    sys.stderr.write(f"kubelite: {message}\n")
    sys.exit(1)
