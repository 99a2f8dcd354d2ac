"""Which scope each route needs. The rule stands where the route is declared.

    @router.get("/metadata")
    @needs(Scope.READ)
    async def read_metadata(...): ...

A `KeyedRoute` asks the `Gate` of its application before anything of the request's body is read. A
route without a rule cannot be made. `check_rules()` finds routes of other kinds.

This is not a FastAPI dependency: each of those costs a request some 20 microseconds, also where
nobody needs a key.
"""

from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from fastapi import FastAPI, Request, Response
from fastapi.routing import APIRoute, iter_route_contexts

from app.api.gate import Gate
from app.keys import Scope

Handler = Callable[[Request], Coroutine[Any, Any, Response]]
Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])

SECURITY_SCHEME = "key"

_RULE: Final = "needed_scope"

OPEN_PATHS = frozenset({"/openapi.json", "/static"})
"""Routes that FastAPI and Starlette make themselves. They show no data, and need no key."""


def needs(scope: Scope) -> Callable[[Endpoint], Endpoint]:
    """Declare that callers of a route need a key with this scope."""
    return _ruled(scope)


def needs_no_key(endpoint: Endpoint) -> Endpoint:
    """Declare that anybody may call a route: it shows no data."""
    return _ruled(None)(endpoint)


def _ruled(scope: Scope | None) -> Callable[[Endpoint], Endpoint]:
    def mark(endpoint: Endpoint) -> Endpoint:
        setattr(endpoint, _RULE, scope)
        return endpoint

    return mark


class KeyedRoute(APIRoute):
    """A route that says which scope its callers need; `needed` is None if they need no key."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        if not hasattr(endpoint, _RULE):
            raise TypeError(f"{path} says neither @needs(Scope...) nor @needs_no_key")
        self.needed: Scope | None = getattr(endpoint, _RULE)
        if self.needed:
            security = {"security": [{SECURITY_SCHEME: [self.needed.value]}]}
            options["openapi_extra"] = security | (options.get("openapi_extra") or {})
        super().__init__(path, endpoint, **options)

    def handler(self) -> Handler:
        """Return what handles a request that may pass."""
        return super().get_route_handler()

    def get_route_handler(self) -> Handler:
        """Return what FastAPI calls for a request: first the gate, then the endpoint."""
        handle, needed = self.handler(), self.needed
        if needed is None:
            return handle

        async def admit_and_handle(request: Request) -> Response:
            gate: Gate | None = request.app.state.gate
            if gate is not None:
                await gate.admit(request.scope, needed)
            return await handle(request)

        return admit_and_handle


def check_rules(app: FastAPI) -> None:
    """Raise `TypeError` if a route of the application says nothing of the keys it needs."""
    for route in iter_route_contexts(app.routes):
        if route.path not in OPEN_PATHS and not isinstance(route.original_route, KeyedRoute):
            raise TypeError(f"{route.path} is no KeyedRoute, so anybody may call it")
