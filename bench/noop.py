"""The baseline of the API: the same FastAPI, uvicorn and body model, and nothing done."""

from fastapi import FastAPI

from app.api.schemas import MetadataRequest

app = FastAPI()


@app.post("/metadata", status_code=202)
async def take(body: MetadataRequest) -> dict[str, str]:
    """Answer at once."""
    return {"status": "QUEUED", "url": body.url}


@app.get("/health/ready")
async def ready() -> dict[str, str]:
    """Answer as the real one does, so that it is waited for in the same way."""
    return {"status": "ready"}
