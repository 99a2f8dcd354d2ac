"""Which spellings of a URL are the same page. Every entry to the service asks this module."""

import re
from contextlib import suppress

from ada_url import URL, HostType

from app.errors import InvalidUrl

MAX_URL_LENGTH = 2083
DEFAULT_PORTS = {"http": 80, "https": 443}

MAX_GIVEN_LENGTH = 8 * MAX_URL_LENGTH
"""What is longer is not parsed: it could become shorter, but nobody writes such a URL."""

_UNREADABLE = re.compile(r"[\x00-\x1f\s\x7f]")
_HTTP = re.compile("https?:", re.IGNORECASE)
_ONLY_HTTP = "only absolute http:// and https:// URLs are taken"

# RFC 1123, section 2.1, and the underscore, which real names have.
_HOST_NAME = re.compile(r"(?=.{1,253}\.?$)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?")


def canonical_url(text: str) -> str:
    """Return the spelling under which a page is kept.

    It is the serialisation of the WHATWG URL standard (https://url.spec.whatwg.org/), which
    browsers use, without the fragment. White space around the URL is ignored, inside it is not
    taken.

    Raises `InvalidUrl` for anything but an absolute http or https URL without credentials that
    has at most 2083 characters in this spelling, and the host name or address of a server.
    """
    text = text.strip()
    if not text:
        raise InvalidUrl("the URL is empty; give one such as https://example.com/")
    if _UNREADABLE.search(text):
        # A browser would take it, but it is more often two URLs than one.
        raise InvalidUrl("the URL contains white space or control characters; encode them")
    return _serialized(_parsed(text))


def canonical_or_none(text: str) -> str | None:
    """Return the canonical form of a URL, or None if it has none."""
    with suppress(InvalidUrl):
        return canonical_url(text)
    return None


def absolute_url(base: str, text: str) -> str | None:
    """Return the canonical form of a URL as seen from `base`, or None if it is not one of ours."""
    with suppress(InvalidUrl):
        return _serialized(_parsed(text, base))
    return None


def host_of(url: str) -> str:
    """Return the host of a canonical URL, without its port; an IPv6 address keeps its brackets."""
    authority = re.split(r"[/?#]", url.partition("://")[2], maxsplit=1)[0]
    host, _, port = authority.rpartition(":")
    return host if port.isdecimal() else authority


def _parsed(text: str, base: str | None = None) -> URL:
    if len(text) > MAX_GIVEN_LENGTH:
        raise InvalidUrl(f"the URL is longer than {MAX_URL_LENGTH} characters")
    try:
        return URL(text, base)
    except UnicodeEncodeError as exc:
        raise InvalidUrl(
            "the URL contains half of a surrogate pair, which is no character"
        ) from exc
    except ValueError as exc:
        if base is None and not _HTTP.match(text):
            raise InvalidUrl(_ONLY_HTTP) from exc
        raise InvalidUrl("not a valid URL: its host, its port or its syntax is wrong") from exc


def _serialized(url: URL) -> str:
    text = url.href.partition("#")[0]
    scheme, _, rest = text.partition("://")
    if scheme not in DEFAULT_PORTS:
        raise InvalidUrl(_ONLY_HTTP)
    if "@" in rest.partition("/")[0]:
        raise InvalidUrl("a URL with credentials is not taken; remove the part before the @")
    if url.host_type is HostType.DEFAULT and not _HOST_NAME.fullmatch(url.hostname):
        raise InvalidUrl(f"not a valid host name: {url.hostname[:MAX_URL_LENGTH]}")
    if len(text) > MAX_URL_LENGTH:
        raise InvalidUrl(f"the URL is longer than {MAX_URL_LENGTH} characters")
    return text
