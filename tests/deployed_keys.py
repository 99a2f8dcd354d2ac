"""API keys of a deployment: made by `pagemeta keys`, and sent to its API."""

from app.keys import Scope, new_id, new_secret
from dev.stack import Api
from tests.command_line import pagemeta
from tests.keys import bearer
from tests.plain_http import CLIENT
from tests.service import Service

REQUIRED = {"API_AUTH": "required"}
REVOKED_WITHIN_SECONDS = 10.0


def make_key(service: Service, name: str, *scopes: Scope, per_minute: int = 0) -> str:
    permits = [word for scope in scopes for word in ("--scope", scope.value)]
    limit = ("--requests-per-minute", str(per_minute))
    made = pagemeta(service, "keys", "create", name, *permits, *limit)
    assert made.exit_code == 0, made.stderr
    return made.stdout.strip()


def status(api: Api, key: str | None, path: str = "/metrics") -> int:
    headers = bearer(key) if key else None
    return CLIENT.get(f"{api.url}{path}", headers=headers).status_code


def unknown_key() -> str:
    return f"pm_{new_id()}_{new_secret()}"
