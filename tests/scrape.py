"""`/metrics` of a process, read as Prometheus reads it."""

from prometheus_client.parser import text_string_to_metric_families

from dev.stack import Api, Worker
from tests.plain_http import CLIENT


class Scrape:
    """The samples of one scrape. A sample that is not there is None."""

    def __init__(self, process: Api | Worker) -> None:
        answer = CLIENT.get(f"{process.url}/metrics")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/plain; version=")
        self._samples = [
            sample
            for family in text_string_to_metric_families(answer.text)
            for sample in family.samples
        ]

    def __call__(self, name: str, **labels: str) -> float | None:
        found = [
            sample.value
            for sample in self._samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]
        return sum(found) if found else None
