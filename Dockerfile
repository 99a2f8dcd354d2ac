# One image for both processes: as it is the API, with the command of compose.yaml the worker.

FROM python:3.11.16-slim-bookworm AS packages
COPY requirements.lock /
RUN python -m venv --without-pip /venv \
    && pip --no-cache-dir --disable-pip-version-check --python /venv/bin/python \
        install --require-hashes --requirement /requirements.lock

FROM python:3.11.16-slim-bookworm
LABEL org.opencontainers.image.title="page-metadata" \
      org.opencontainers.image.description="An inventory of web pages: headers, cookies and source" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.source="https://github.com/page-metadata/page-metadata"
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin service
COPY --from=packages /venv /venv
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=/service
WORKDIR /service
COPY app app
RUN printf '#!/bin/sh\nexec python -m app.cli.main "$@"\n' > /usr/local/bin/pagemeta \
    && chmod 755 /usr/local/bin/pagemeta
RUN install --directory --owner=service /keys  # Compose mounts a volume here, which gets this owner
USER 10001
EXPOSE 6577 6578
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:6577/health/ready')"]
CMD ["python", "-m", "app.api", "--host", "0.0.0.0", "--port", "6577"]
