"""The pages for people: the inventory, and the contracts of HTTP and of messages.

A page is a file in `pages/`, put into `pages/layout.html` with a `pages/link.html` to each page.
Scripts and styles come from `pages/static/` and from Python packages: a page may load nothing from
anywhere else. All addresses are relative, so the pages also work below a prefix.

`/inventory` is a client of the HTTP API like any other: `pages/static/inventory/` has its script.
"""

from collections.abc import Awaitable, Callable
from functools import cache
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from fastapi import APIRouter, FastAPI, Response
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.staticfiles import StaticFiles

from app.api.access import KeyedRoute, needs_no_key
from app.contract.documents import Documents, JsonObject, as_yaml

PAGES = {
    "": "Page metadata",
    "inventory": "Inventory",
    "docs": "HTTP: Swagger UI",
    "redoc": "HTTP: Redoc",
    "asyncapi": "Messages: API",
    "asyncapi/worker": "Messages: worker",
}
"""The pages by their path, in the order of the navigation."""

READING = ["GET", "HEAD"]
"""The methods of pages and documents."""

_FOLDER = Path(__file__).with_name("pages")
_STATIC: list[str | tuple[str, str]] = [
    ("app.api", "pages/static"),
    ("fastapi_offline", "static"),  # Swagger UI, Redoc, the icon
    ("asyncapi_viewer", "static"),
]
_STRICT_POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}
_POLICY = _STRICT_POLICY | {
    "style-src": "'self' 'unsafe-inline'",  # all three viewers write styles into the page
    "img-src": "'self' data:",
    "font-src": "'self' data:",
    "worker-src": "'self' blob:",  # Redoc's search
}
_INVENTORY_POLICY = _STRICT_POLICY | {
    # The page that an image stands for names the image, so it can be anywhere. The script makes an
    # image only when the person has asked for it, and markup from elsewhere never becomes elements:
    # nothing parses it. Through this service images would need a fetcher of their own.
    "img-src": "'self' data: https: http:",
    # Text cannot be made to run by mistake: `innerHTML` and its like throw in browsers that know
    # trusted types.
    "require-trusted-types-for": "'script'",
    "trusted-types": "'none'",
}


def _headers(path: str) -> dict[str, str]:
    policy = _INVENTORY_POLICY if path == "inventory" else _POLICY
    return {
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }


def serve_docs(app: FastAPI, documents: Documents) -> None:
    """Add the pages, what they load and the documents they show to the application."""
    app.state.documents = documents
    router = APIRouter(include_in_schema=False, route_class=KeyedRoute)
    for path in PAGES:
        router.add_api_route(f"/{path}", _page(path), methods=READING)
    _add_document(router, "/asyncapi", lambda: documents.api)
    _add_document(router, "/asyncapi/worker", lambda: documents.worker)
    router.add_api_route("/redoc/redoc.js", _redoc_script, methods=READING)
    app.include_router(router)
    app.mount("/static", _CurrentFiles(packages=_STATIC))


class _CurrentFiles(StaticFiles):
    """Has browsers ask each time whether a file has changed.

    After an upgrade they would else mix modules of two versions for some hours.
    """

    def file_response(self, *args: Any, **options: Any) -> Response:
        response = super().file_response(*args, **options)
        response.headers["Cache-Control"] = "no-cache"
        return response


def _page(path: str) -> Callable[[], Awaitable[Response]]:
    html, headers = _render(path), _headers(path)

    @needs_no_key
    async def page() -> HTMLResponse:
        return HTMLResponse(html, headers=headers)

    return page


def _render(path: str) -> str:
    root = ".." if "/" in path else "."
    link = _template("link")
    links = [
        link.substitute(
            root=root, to=to, current="page" if to == path else "false", name=escape(name)
        )
        for to, name in PAGES.items()
    ]
    return _template("layout").substitute(
        title=f"{PAGES[path]} - {PAGES['']}" if path else PAGES[""],
        root=root,
        links="".join(links),
        body=_template(path.replace("/", "-") or "index").substitute(root=root),
    )


def _template(name: str) -> Template:
    return Template((_FOLDER / f"{name}.html").read_text("utf-8"))


def _add_document(router: APIRouter, path: str, document: Callable[[], JsonObject]) -> None:
    """Serve a document as YAML and as JSON."""

    # The document never changes, and building it holds the event loop for some tenths of a second.
    @cache
    def yaml_text() -> str:
        return as_yaml(document())

    @needs_no_key
    async def get_yaml() -> Response:
        return Response(yaml_text(), media_type="application/yaml")

    @needs_no_key
    async def get_json() -> Response:
        return JSONResponse(document())

    router.add_api_route(f"{path}.yaml", get_yaml, methods=READING)
    router.add_api_route(f"{path}.json", get_json, methods=READING)


@needs_no_key
async def _redoc_script() -> Response:
    """Return Redoc without a picture that it would load from a CDN. It has no option for that."""
    return Response(_redoc_without_logo(), media_type="text/javascript")


@cache
def _redoc_without_logo() -> str:
    script = files("fastapi_offline").joinpath("static", "redoc.standalone.js").read_text("utf-8")
    return script.replace("https://cdn.redoc.ly/redoc/logo-mini.svg", "data:,")
