"""`/asyncapi`: the message contract, rendered from files of our own (no CDN)."""

import yaml
from asyncapi_viewer.assets import VIEWER_MODULE, static_path
from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse, HTMLResponse

from app.broker.specification import api_specification

router = APIRouter(include_in_schema=False)

VIEWER_PATH = "/asyncapi/viewer.js"

_PAGE = f"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Page metadata: messages</title></head>
<body style="margin: 0">
<script type="module" src="{VIEWER_PATH}"></script>
<asyncapi-viewer src="/asyncapi.yaml"></asyncapi-viewer>
</body>
</html>
"""


@router.get("/asyncapi")
async def asyncapi_page() -> HTMLResponse:
    """Show the message contract to a person."""
    return HTMLResponse(_PAGE)


@router.get("/asyncapi.yaml")
async def asyncapi_document(request: Request) -> Response:
    """Return the message contract as an AsyncAPI 3.0 document."""
    document = yaml.safe_dump(
        api_specification(request.app.state.broker), sort_keys=False, allow_unicode=True
    )
    return Response(document, media_type="application/yaml")


@router.get(VIEWER_PATH)
async def viewer() -> FileResponse:
    """Return the script that renders the page."""
    return FileResponse(static_path(VIEWER_MODULE), media_type="text/javascript")
