"""Which form of an answer a caller wants: compressed or not, and only if it has changed.

An entity tag stands for the bytes of one form of a page (RFC 9110, 8.8.3). It is a hash of what is
answered, the metadata excepted, and of the revision of the record, which grows whenever the
metadata change. So a record gives its tag even if it was read without its metadata. The compressed
form has a tag of its own.

An answer holds no secret of the caller, such as a token. So its compressed length can betray none,
whatever else of the answer a stranger may choose (BREACH, https://breachattack.com).
"""

import re
from dataclasses import dataclass
from datetime import UTC
from email.utils import format_datetime
from hashlib import sha256
from http import HTTPMethod

from starlette.datastructures import Headers
from starlette.requests import Request

from app import __version__
from app.api.schemas import page_answer
from app.models import PageRecord

MIN_GZIP_BYTES = 1024
"""Up to this size compressing an answer gains nothing: it is one packet on the network anyway."""

GZIP_SUFFIX = "-gzip"

_TAG = re.compile(r'(?:W/)?"([^"]*)"')
_WEIGHT = re.compile(r"q=([01](?:\.[0-9]{0,3})?)")


@dataclass(frozen=True, slots=True)
class Codings:
    """The content codings that a caller accepts, of those that we have (RFC 9110, 12.5.3)."""

    gzip: bool
    """Whether it accepts gzip, and does not prefer an answer that is not compressed."""

    identity: bool
    """Whether it accepts an answer that is not compressed."""

    @staticmethod
    def of(headers: Headers) -> "Codings":
        """Read `Accept-Encoding`."""
        weights = _weights(",".join(headers.getlist("accept-encoding")))
        others = weights.get("*")
        gzip = weights.get("gzip", weights.get("x-gzip", others or 0.0))
        identity = weights.get("identity", others)
        if identity is None:  # it is accepted, but less welcome than a coding that was named
            return Codings(gzip=gzip > 0, identity=True)
        return Codings(gzip=gzip > 0 and gzip >= identity, identity=identity > 0)

    def use_gzip(self, size: int) -> bool:
        """Say whether an answer of so many bytes is to be compressed."""
        return self.gzip and (size > MIN_GZIP_BYTES or not self.identity)


def _weights(text: str) -> dict[str, float]:
    """Return the weight of each coding; one whose weight cannot be read is not accepted."""
    weights = {}
    for item in text.split(","):
        name, _, parameter = item.partition(";")
        weights[name.strip().lower()] = _weight(parameter.strip().lower())
    weights.pop("", None)
    return weights


def _weight(parameter: str) -> float:
    if not parameter:
        return 1.0
    found = _WEIGHT.fullmatch(parameter)
    return float(found[1]) if found else 0.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the headers of a request say about the form of the answer."""

    codings: Codings

    known_tags: frozenset[str] | None
    """The tags in `If-None-Match`, `*` among them if any answer is known; None without the header.
    """

    @staticmethod
    def of(request: Request) -> "Wanted":
        """Read the headers of a request. A POST is never answered 304."""
        is_read = request.method in (HTTPMethod.GET, HTTPMethod.HEAD)
        known_tags = _known_tags(request.headers) if is_read else None
        return Wanted(Codings.of(request.headers), known_tags)

    def known(self, tag: str) -> str | None:
        """Return the tag of the form that the caller has and may use again, if there is one."""
        known = self.known_tags or frozenset()
        forms = {tag: self.codings.identity, tag + GZIP_SUFFIX: self.codings.gzip}
        usable = [form for form, accepted in forms.items() if accepted]
        return next((form for form in usable if form in known or "*" in known), None)


def _known_tags(headers: Headers) -> frozenset[str] | None:
    values = headers.getlist("if-none-match")
    if not values:
        return None
    if "*" in (value.strip() for value in values):
        return frozenset("*")
    # `"*"` in quotation marks is a tag, which none of our answers has.
    return frozenset(_TAG.findall(",".join(values))) - {"*"}


def tag_of(record: PageRecord, form: str) -> str:
    """Return the entity tag of a page in a form, without its quotation marks.

    `form` names everything that the answer depends on beside the record. The version of the program
    belongs to it, because the next one may write the same record in another way.
    """
    answered = page_answer(record).model_dump_json(exclude={"metadata"})
    text = "\n".join([__version__, form, str(record.revision), answered])
    return sha256(text.encode()).hexdigest()[:32]


def validators(record: PageRecord, tag: str) -> dict[str, str]:
    """Return the headers by which a caller asks later whether an answer has changed.

    A cache is to ask each time: nobody knows how long a page stays as it is.
    """
    return {
        "ETag": f'"{tag}"',
        "Last-Modified": format_datetime(record.updated_at.astimezone(UTC), usegmt=True),
        "Cache-Control": "no-cache",
        "Vary": "Accept-Encoding",
    }
