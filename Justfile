# The one front door: people, hooks and CI call these recipes. `just --list` shows them.

set dotenv-load := false

python := ".venv/bin/python"
lock := "requirements-dev.lock"

# List the recipes
[private]
default:
    @just --list

# Create .venv from the locked, hashed requirements (once; again when the lock changes)
setup:
    @if ! cmp --silent {{ lock }} .venv/installed.lock; then \
        echo "just: installing the locked packages into .venv"; \
        python3 -m venv .venv; \
        {{ python }} -m pip install --quiet --disable-pip-version-check --require-hashes --requirement {{ lock }}; \
        cp {{ lock }} .venv/installed.lock; \
    fi

# Write the lock files anew from pyproject.toml
lock: setup
    {{ python }} -m uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links --no-config --upgrade pyproject.toml --output-file requirements.lock
    {{ python }} -m uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links --no-config --upgrade pyproject.toml --group dev --output-file requirements-dev.lock
