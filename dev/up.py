"""`python -m dev.up all`, `servers` or `install`: the service on its usual ports, for `just`."""

import signal
import sys
import time

from dev.servers import Server, ServerFailed, ServerMissing, install_missing
from dev.stack import (
    API_PORT,
    MANAGEMENT_PORT,
    STATE,
    WORKER_PORT,
    Api,
    Worker,
    require_free,
    running,
    services,
    settings_in_file,
)

FOLDER = STATE / "up"


def say(text: str) -> None:
    """Tell the person who called, at once, also through a pipe."""
    print(text, flush=True)


def run_all() -> None:
    """Run servers, API and worker until interrupted."""
    require_free(API_PORT, "the API")
    require_free(WORKER_PORT, "the worker")
    with services(FOLDER, usual_ports=True, say=say) as addresses:
        environment = settings_in_file() | addresses
        api = Api(FOLDER, port=API_PORT, environment=environment)
        worker = Worker(FOLDER, port=WORKER_PORT, environment=environment)
        with running(worker, api, say=say):
            say(_where(api, addresses))
            _wait_while_running(worker, api)


def run_servers() -> None:
    """Run RabbitMQ and MongoDB until interrupted."""
    with services(FOLDER, usual_ports=True, say=say) as addresses:
        if not addresses:
            say("Nothing to start: BROKER_URL and DATABASE_URL name servers that are elsewhere.")
            return
        say("\n".join(["", *_settings(addresses), "", "Ctrl-C stops them."]))
        signal.pause()


def _where(api: Api, addresses: dict[str, str]) -> str:
    lines = [
        "",
        f"API         {api.url}/inventory  /docs  /redoc  /asyncapi  /metrics",
        f"logs        {FOLDER}/*.log",
        *_settings(addresses),
        "",
        "Ctrl-C stops everything.",
    ]
    return "\n".join(lines)


def _settings(addresses: dict[str, str]) -> list[str]:
    lines = [f"{variable}={url}" for variable, url in addresses.items()]
    if "BROKER_URL" in addresses:
        lines.append(f"management  http://127.0.0.1:{MANAGEMENT_PORT} (guest, guest)")
    return lines


def _wait_while_running(*servers: Server) -> None:
    while all(server.running for server in servers):
        time.sleep(0.2)
    ended = ", ".join(server.name for server in servers if not server.running)
    raise ServerFailed(f"{ended} ended; see {FOLDER}/*.log")


def install() -> None:
    """Install what the tests need and this machine lacks."""
    install_missing(for_tests=True)


COMMANDS = {"all": run_all, "servers": run_servers, "install": install}


def main() -> None:
    """Run the command that the first argument names."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # to be stopped is no error
    try:
        COMMANDS[sys.argv[1]]()
    except KeyboardInterrupt:
        say("Stopped.")
    except (ServerMissing, ServerFailed) as exc:
        sys.exit(str(exc))


if __name__ == "__main__":
    main()
