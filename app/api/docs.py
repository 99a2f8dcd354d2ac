"""The contracts for people: HTTP at `/docs` and `/redoc`, messages at `/asyncapi`.

Scripts and styles come from Python packages; the pages may load nothing from anywhere else. All
addresses are relative, so that the pages also work below a prefix.
"""

import json
from functools import cache
from html import escape
from importlib.resources import files

from asyncapi_viewer.assets import VIEWER_MODULE, static_path
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import FileResponse, HTMLResponse
from fastapi.staticfiles import StaticFiles

from app.contract.documents import Document, Documents, as_yaml

router = APIRouter(include_in_schema=False)

_POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self' 'unsafe-inline'",  # what all three viewers write into the page
    "img-src": "'self' data:",
    "font-src": "'self' data:",
    "connect-src": "'self'",
    "worker-src": "'self' blob:",  # Redoc's search
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}
HEADERS = {
    "Content-Security-Policy": "; ".join(f"{name} {sources}" for name, sources in _POLICY.items()),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="{root}/static/favicon.png">
<style>
body {{ margin: 0; font-family: sans-serif; }}
body > nav {{ padding: 0.7em 1em; background: #222; }}
body > nav a {{ margin-right: 1.5em; color: #ddd; text-decoration: none; }}
body > nav a[aria-current] {{ color: #fff; font-weight: bold; }}
main {{ max-width: 45em; margin: 2em auto; padding: 0 1em; line-height: 1.5; }}
</style>
</head>
<body>
<nav>{links}</nav>
{body}
</body>
</html>
"""

_LINKS = {
    "": "Page metadata",
    "docs": "HTTP: Swagger UI",
    "redoc": "HTTP: Redoc",
    "asyncapi": "Messages: API",
    "asyncapi/worker": "Messages: worker",
}


def _page(path: str, body: str) -> HTMLResponse:
    root = ".." if "/" in path else "."
    links = " ".join(
        f'<a href="{root}/{to}"{" aria-current=page" if to == path else ""}>{escape(name)}</a>'
        for to, name in _LINKS.items()
    )
    title = f"{_LINKS[path]} - Page metadata" if path else "Page metadata"
    page = _PAGE.format(title=escape(title), root=root, links=links, body=body.format(root=root))
    return HTMLResponse(page, headers=HEADERS)


# --- Pages ----------------------------------------------------------------------------------------


@router.get("/")
async def index() -> HTMLResponse:
    """Lead a person on."""
    return _page("", _INDEX)


_INDEX = """<main>
<h1>Page metadata</h1>
<p>An inventory of web pages: ask for a URL, and read its headers, cookies and page source back.</p>
<h2>To use it over HTTP</h2>
<p><a href="./docs">Swagger UI</a> and <a href="./redoc">Redoc</a> show the same document,
<a href="./openapi.json">openapi.json</a>.</p>
<h2>To use its messages</h2>
<p><a href="./asyncapi">What the API sends</a>
(<a href="./asyncapi.yaml">YAML</a>, <a href="./asyncapi.json">JSON</a>) and
<a href="./asyncapi/worker">what a worker receives and sends</a>
(<a href="./asyncapi/worker.yaml">YAML</a>, <a href="./asyncapi/worker.json">JSON</a>).</p>
<h2>To see how it is</h2>
<p><a href="./health/ready">Can it do its work?</a></p>
</main>"""


@router.get("/docs")
async def swagger() -> HTMLResponse:
    """Show the HTTP contract, with calls that can be made from the page."""
    return _page("docs", _SWAGGER)


_SWAGGER = """<link rel="stylesheet" href="{root}/static/swagger-ui.css">
<div id="swagger-ui"></div>
<script src="{root}/static/swagger-ui-bundle.js"></script>
<script src="{root}/docs/start.js"></script>"""

_START_SWAGGER = """SwaggerUIBundle({
  url: "./openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
});
"""


@router.get("/docs/start.js")
async def start_swagger() -> Response:
    """Return what Swagger UI is started with: scripts within the page are forbidden."""
    return Response(_START_SWAGGER, media_type="text/javascript")


@router.get("/redoc")
async def redoc() -> HTMLResponse:
    """Show the HTTP contract, to be read."""
    return _page("redoc", _REDOC)


_REDOC = """<redoc spec-url="{root}/openapi.json"></redoc>
<script src="{root}/redoc/redoc.js"></script>"""


@router.get("/redoc/redoc.js")
async def redoc_script() -> Response:
    """Return Redoc without a picture that it would get from a CDN: it has no option for that."""
    return Response(_redoc_script(), media_type="text/javascript")


@cache
def _redoc_script() -> str:
    script = files("fastapi_offline").joinpath("static", "redoc.standalone.js")
    return script.read_text("utf-8").replace("https://cdn.redoc.ly/redoc/logo-mini.svg", "data:,")


@router.get("/asyncapi")
async def api_messages() -> HTMLResponse:
    """Show the message contract of the API."""
    return _page("asyncapi", _viewer("asyncapi.yaml"))


@router.get("/asyncapi/worker")
async def worker_messages() -> HTMLResponse:
    """Show the message contract of the worker."""
    return _page("asyncapi/worker", _viewer("asyncapi/worker.yaml"))


def _viewer(document: str) -> str:
    return (
        '<script type="module" src="{root}/asyncapi/viewer.js"></script>\n'
        f'<asyncapi-viewer src="{{root}}/{document}" sidebar></asyncapi-viewer>'
    )


# --- What the pages are made of -------------------------------------------------------------------


def serve_docs(app: FastAPI, documents: Documents) -> None:
    """Add the pages to the application, and the documents that they show."""
    app.state.documents = documents
    app.include_router(router)
    app.mount("/static", StaticFiles(packages=[("fastapi_offline", "static")]))


@router.get("/asyncapi/viewer.js")
async def viewer() -> FileResponse:
    """Return the script that renders AsyncAPI documents."""
    return FileResponse(static_path(VIEWER_MODULE), media_type="text/javascript")


@router.get("/asyncapi.yaml")
async def api_as_yaml(request: Request) -> Response:
    """Return what the API sends as an AsyncAPI 3.0 document."""
    return _yaml(request.app.state.documents.api)


@router.get("/asyncapi.json")
async def api_as_json(request: Request) -> Response:
    """Return the same as JSON."""
    return _json(request.app.state.documents.api)


@router.get("/asyncapi/worker.yaml")
async def worker_as_yaml(request: Request) -> Response:
    """Return what a worker receives and sends as an AsyncAPI 3.0 document."""
    return _yaml(request.app.state.documents.worker)


@router.get("/asyncapi/worker.json")
async def worker_as_json(request: Request) -> Response:
    """Return the same as JSON."""
    return _json(request.app.state.documents.worker)


def _yaml(document: Document) -> Response:
    return Response(as_yaml(document), media_type="application/yaml")


def _json(document: Document) -> Response:
    return Response(json.dumps(document, ensure_ascii=False), media_type="application/json")
