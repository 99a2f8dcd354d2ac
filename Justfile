# People, hooks and CI all call these recipes. `just --list` explains each of them.

set dotenv-load := false
set ignore-comments := true  # comments inside a recipe are neither run nor printed
set positional-arguments := true  # "$@" in a recipe passes its arguments on unchanged

python := ".venv/bin/python"
python3 := env("PYTHON", "python3")
lock := "requirements-dev.lock"
export JUST := just_executable()

pytest := python + " -m pytest"

# Tests that use servers mostly wait for them. So four processes of pytest-xdist share the two cores
# of a small machine, each with a RabbitMQ and a MongoDB of its own. `-n 0` runs one test after the
# other, as pytest's --pdb needs it.
on_servers := "--numprocesses=4 --dist=loadgroup"

# The tests start Python some hundred times, so it keeps compiled modules even where the environment
# tells it not to.
export PYTHONDONTWRITEBYTECODE := ""

# List the recipes
[private]
default:
    @just --list --unsorted

# Show the whole service at work, on pages of its own or on the given URLs; --keep leaves it running
demo *URLS: setup
    @exec {{ python }} -m dev.demo "$@"

# Run servers, API (port 6577) and worker (6578) until Ctrl-C
up: setup
    @exec {{ python }} -m dev.up all

# Run only RabbitMQ and MongoDB, on their usual ports, until Ctrl-C
services: setup
    @exec {{ python }} -m dev.up servers

# Run the API, with the settings in the environment and in .env
api PORT="6577" *ARGS: setup
    @shift; exec {{ python }} -m app.api --host 127.0.0.1 --port {{ PORT }} "$@"

# Run a worker, with the settings in the environment and in .env; each needs another port
worker PORT="6578" *ARGS: setup
    @shift; exec {{ python }} -m faststream run app.worker.main:app --host 127.0.0.1 --port {{ PORT }} "$@"

# Run everything CI runs: lint, types, contract, test, faults
check: lint types contract test faults

# Run the tests that need no server, or some of them, such as `just unit -k urls`
unit *ARGS: setup
    {{ pytest }} --numprocesses=auto -m unit --durations=5 "$@"

# Run the unit tests, then those on real servers and a few faults; or what pytest's arguments choose
test *ARGS: setup
    #!/bin/sh
    set -eu
    if [ $# -gt 0 ]; then
        {{ python }} -m dev.up install
        exec {{ pytest }} {{ on_servers }} "$@"
    fi
    # Unit tests come first: what they find is reported before any server is installed or started.
    {{ pytest }} --numprocesses=auto -m unit --cov=app --cov-report= --cov-fail-under=0
    {{ python }} -m dev.up install
    # The floor of coverage in pyproject.toml applies to both runs together.
    exec {{ pytest }} {{ on_servers }} -m "not unit and (not fault or representative)" \
        --durations=10 --cov=app --cov-append

# Run the fault matrix: processes and servers are killed, stopped and paused under load
faults *ARGS: setup
    @{{ python }} -m dev.up install
    # Two at once: some start five servers, and what a fault shows on a starved machine is load.
    {{ pytest }} --numprocesses=2 --dist=loadgroup -m fault --durations=10 "$@"

# Run the tests on real servers and all faults on RabbitMQ 4, as root; or what pytest's arguments choose
matrix *ARGS: setup
    #!/bin/sh
    set -eu
    export RABBITMQ_FROM="$PWD/.state/rabbitmq-4"
    {{ python }} -m dev.rabbitmq4
    {{ python }} -m dev.up install
    [ $# -gt 0 ] || set -- tests/integration tests/faults
    {{ pytest }} --numprocesses=2 --dist=loadgroup --durations=10 "$@"

# Hurt the service at random under load, for some minutes or --requests N, and judge it
soak *ARGS: setup
    @exec {{ python }} -m tests.soak "$@"

# Break one guard after another, and want the tests to go red; or the guards that words name
sabotage *WORDS: setup
    @exec {{ python }} -m tests.sabotage "$@"

# Measure the service against baselines, in some rounds, of which the median counts
bench ROUNDS="3": setup
    @exec {{ python }} -m bench.run "$@"

# Measure the service against Celery, Dramatiq, taskiq and Scrapy
bench-compare ROUNDS="3": (install ".venv-bench" "requirements-bench.lock")
    @exec .venv-bench/bin/python -m bench.compare "$@"

# Check the code, its formatting, its imports, the declared packages and the Dockerfile
lint: setup
    {{ python }} -m ruff check
    {{ python }} -m ruff format --check
    .venv/bin/lint-imports
    .venv/bin/deptry .
    .venv/bin/hadolint Dockerfile

# Check the types
types: setup
    {{ python }} -m mypy app tests dev bench examples

# Format the code, and fix what ruff can fix
fmt: setup
    {{ python }} -m ruff check --fix
    {{ python }} -m ruff format

# Generate the message contracts in asyncapi/, only compare them (--check), or --release them
asyncapi *ARGS: setup
    @{{ python }} -m dev.specs "$@"

# Check the message contracts with AsyncAPI's own parser, and the models made from them, by Node.js
contract: setup
    @{{ python }} -m dev.contract
    @{{ python }} -m dev.models --check

# Generate the models in examples/models/ from the contracts, or only compare them (--check)
models *ARGS: setup
    @{{ python }} -m dev.models "$@"

# Take the screenshots of the README and of docs/messages.md
screenshots: setup
    @{{ python }} -m dev.screenshots

# Generate .env.example, or only compare it (--check)
env-example *ARGS: setup
    @{{ python }} -m dev.settings_example "$@"

# Install the locked packages into .venv, unless they are installed
setup: (install ".venv" lock)

# Install the packages of a lock file into a virtual environment, unless they are installed
[private]
install FOLDER LOCK:
    #!/bin/sh
    set -eu
    if [ -x "$1/bin/python" ] && cmp -s "$2" "$1/installed.lock"; then
        exit 0
    fi
    if ! {{ python3 }} -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        echo "Python 3.11 or newer is needed; PYTHON=python3.12 just ... names another one." >&2
        exit 1
    fi
    echo "Installing the locked packages into $1 ..."
    [ -x "$1/bin/python" ] || rm -rf "$1"  # the Python it was made with is gone
    # The environment gets no pip of its own, since Debian's Python can give it none unless
    # python3-venv is installed. The pip outside installs into it.
    {{ python3 }} -m venv --without-pip "$1"
    {{ python3 }} -m pip --disable-pip-version-check --python "$1/bin/python" \
        install --quiet --root-user-action=ignore --require-hashes --requirement "$2"
    cp "$2" "$1/installed.lock"

# Lock the newest versions of the packages in pyproject.toml
lock: setup
    {{ compile }} --output-file requirements.lock
    {{ compile }} --group dev --output-file requirements-dev.lock
    {{ compile }} --group dev --group bench --constraints requirements-dev.lock \
        --output-file requirements-bench.lock

compile := python + " -m uv pip compile --quiet --no-config --upgrade --universal --python-version 3.11" + \
    " --no-strip-extras --generate-hashes --no-emit-index-url --no-emit-find-links" + \
    " --custom-compile-command 'just lock' pyproject.toml"

# Run the command line: submit, get, delete, watch, queues, events, republish, keys, doctor, …
pagemeta *ARGS: setup
    @exec {{ python }} -m app.cli.main "$@"

# List, show, send back or discard messages that no worker could handle
dead-letters *ARGS: setup
    @exec {{ python }} -m app.cli.main dead-letters "$@"
