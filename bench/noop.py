"""The baseline of the API: the same FastAPI, uvicorn and body model, but no work."""

from fastapi import FastAPI

from app.api.schemas import MetadataRequest

app = FastAPI()


@app.post("/metadata", status_code=202)
async def take(body: MetadataRequest) -> dict[str, str]:
    """Answer without doing anything."""
    return {"status": "QUEUED", "url": body.url}


@app.get("/health/ready")
async def ready() -> dict[str, str]:
    """Answer as the real API does, so that the same code can wait for it."""
    return {"status": "ready"}
