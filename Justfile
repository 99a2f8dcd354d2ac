# The one front door: people, hooks and CI call these recipes. `just --list` shows them.

set dotenv-load := false
set ignore-comments := true  # those of recipes are not run, nor shown
set positional-arguments := true  # "$@" keeps an argument whole, whatever is in it

python := ".venv/bin/python"
python3 := env("PYTHON", "python3")
lock := "requirements-dev.lock"
export JUST := just_executable()

pytest := python + " -m pytest"

# Tests of servers mostly wait, so twice as many processes run them as a machine of two cores has
# cores. Each process has a RabbitMQ and a MongoDB of its own.
on_servers := "--numprocesses=4 --dist=loadgroup"

# Python keeps the modules it has compiled, even where the environment says otherwise: the tests
# start Python some hundred times.
export PYTHONDONTWRITEBYTECODE := ""

# List the recipes
[private]
default:
    @just --list --unsorted

# Show the whole service at work, on pages of its own or on the given URLs
demo *URLS: setup
    @exec {{ python }} -m dev.demo "$@"

# Run everything on the usual ports until Ctrl-C: servers, API (6577), worker (6578)
up: setup
    @exec {{ python }} -m dev.up all

# Run RabbitMQ and MongoDB alone, on their usual ports, until Ctrl-C
services: setup
    @exec {{ python }} -m dev.up servers

# Run the API with the settings of the environment and .env
api PORT="6577" *ARGS: setup
    @shift; exec {{ python }} -m app.api --host 127.0.0.1 --port {{ PORT }} "$@"

# Run a worker with the settings of the environment and .env; each needs a port of its own
worker PORT="6578" *ARGS: setup
    @shift; exec {{ python }} -m faststream run app.worker.main:app --host 127.0.0.1 --port {{ PORT }} "$@"

# All that CI runs
check: lint types contract test faults

# Run the tests that need no server, or those of them that pytest's arguments choose
unit *ARGS: setup
    {{ pytest }} --numprocesses=auto -m unit --durations=5 "$@"

# Run the unit tests, then those on real servers and some faults; or what pytest's arguments choose
test *ARGS: setup
    #!/bin/sh
    set -eu
    if [ $# -gt 0 ]; then
        {{ python }} -m dev.up install
        exec {{ pytest }} {{ on_servers }} "$@"
    fi
    # A mistake that a unit test finds is reported before anything is installed or started.
    {{ pytest }} --numprocesses=auto -m unit --cov=app --cov-report= --cov-fail-under=0
    {{ python }} -m dev.up install
    # The floor in pyproject.toml is for what both runs cover together.
    exec {{ pytest }} {{ on_servers }} -m "not unit and (not fault or representative)" \
        --durations=10 --cov=app --cov-append

# Run all faults: processes and servers are killed, stopped and paused under load
faults *ARGS: setup
    @{{ python }} -m dev.up install
    {{ pytest }} {{ on_servers }} -m fault --durations=10 "$@"

# Hurt the service at random under load, for some minutes or --requests N, and judge it
soak *ARGS: setup
    @exec {{ python }} -m tests.soak "$@"

# Measure how fast it is, as ratios against baselines, in so many rounds
bench ROUNDS="3": setup
    @exec {{ python }} -m bench.run "$@"

# Measure it beside what a user would pick instead: Celery, Dramatiq, taskiq, Scrapy
bench-compare ROUNDS="3": (install ".venv-bench" "requirements-bench.lock")
    @exec .venv-bench/bin/python -m bench.compare "$@"

# Look for mistakes in code and Dockerfile, formatting and imports that go the wrong way
lint: setup
    {{ python }} -m ruff check
    {{ python }} -m ruff format --check
    .venv/bin/lint-imports
    .venv/bin/deptry .
    .venv/bin/hadolint Dockerfile

# Check the types
types: setup
    {{ python }} -m mypy app tests dev bench

# Format the code and mend what can be mended automatically
fmt: setup
    {{ python }} -m ruff check --fix
    {{ python }} -m ruff format

# Write the message contracts in asyncapi/ anew, only compare them (--check), or --release them
asyncapi *ARGS: setup
    @{{ python }} -m dev.specs "$@"

# Have AsyncAPI's own parser read the message contracts, where Node.js is
contract: setup
    @{{ python }} -m dev.contract

# Take the pictures of docs/messages.md anew
screenshots: setup
    @{{ python }} -m dev.screenshots

# Write .env.example anew, or only compare it (--check)
env-example *ARGS: setup
    @{{ python }} -m dev.settings_example "$@"

# Install the locked, hashed packages into .venv, unless they are there
setup: (install ".venv" lock)

# Install the packages of a lock file into a folder, unless they are there
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
    [ -x "$1/bin/python" ] || rm -rf "$1"  # its Python is gone
    # The pip outside does it: Debian's Python has none to put inside without python3-venv.
    {{ python3 }} -m venv --without-pip "$1"
    {{ python3 }} -m pip --disable-pip-version-check --python "$1/bin/python" \
        install --quiet --root-user-action=ignore --require-hashes --requirement "$2"
    cp "$2" "$1/installed.lock"

# Write the lock files anew from pyproject.toml, with the newest versions
lock: setup
    {{ compile }} --output-file requirements.lock
    {{ compile }} --group dev --output-file requirements-dev.lock
    {{ compile }} --group dev --group bench --constraints requirements-dev.lock \
        --output-file requirements-bench.lock

compile := python + " -m uv pip compile --quiet --no-config --upgrade --universal --python-version 3.11" + \
    " --no-strip-extras --generate-hashes --no-emit-index-url --no-emit-find-links" + \
    " --custom-compile-command 'just lock' pyproject.toml"

# Ask for pages and look after the service: submit, get, watch, queues, doctor, dead-letters
pagemeta *ARGS: setup
    @exec {{ python }} -m app.cli.main "$@"

# List, show, send back or discard messages that could not be handled
dead-letters *ARGS: setup
    @exec {{ python }} -m app.cli.main dead-letters "$@"
