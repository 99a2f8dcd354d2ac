"""Which spellings of a URL are the same page. Every entry to the service asks this module."""

import re
from ipaddress import IPv6Address
from urllib.parse import SplitResult, urlsplit

import idna

from app.errors import InvalidUrl

MAX_URL_LENGTH = 2083
DEFAULT_PORTS = {"http": 80, "https": 443}

# RFC 1123, section 2.1, and the underscore, which real names have.
_HOST_NAME = re.compile(r"(?=.{1,253}\.?$)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?")

_IPV6_NETLOC = re.compile(r"\[[^\[\]]*\](:[0-9]*)?")


def canonical_url(text: str) -> str:
    """Return the spelling under which a page is kept.

    Scheme and host become lower case, and the host is encoded by IDNA (UTS 46). The default port
    and the fragment are removed, and an empty path becomes `/`. Path and query stay as given.

    Raises `InvalidUrl` for anything but an absolute http or https URL of at most 2083
    characters without credentials.
    """
    text = text.strip()
    _refuse_unreadable(text)
    try:
        parts = urlsplit(text)
        netloc = _canonical_netloc(parts)
    except (ValueError, idna.IDNAError) as exc:
        raise InvalidUrl(f"not a valid URL: {exc}") from exc
    # urlsplit() gives the same for "/page" and "/page?", which may be two pages of a server.
    query = f"?{parts.query}" if "?" in text.partition("#")[0] else ""
    url = f"{parts.scheme}://{netloc}{parts.path or '/'}{query}"
    _refuse_too_long(url)
    return url


def host_of(url: str) -> str:
    """Return the host of a canonical URL, without its port; an IPv6 address keeps its brackets."""
    authority = re.split(r"[/?#]", url.partition("://")[2], maxsplit=1)[0]
    host, _, port = authority.rpartition(":")
    return host if port.isdecimal() else authority


def _refuse_unreadable(text: str) -> None:
    if not text:
        raise InvalidUrl("the URL is empty; give one such as https://example.com/")
    _refuse_too_long(text)
    if any(character <= "\x1f" or character.isspace() or character == "\x7f" for character in text):
        raise InvalidUrl("the URL contains white space or control characters; encode them")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise InvalidUrl("the URL contains half of a surrogate pair, which is no character")


def _refuse_too_long(text: str) -> None:
    if len(text) > MAX_URL_LENGTH:
        raise InvalidUrl(f"the URL is longer than {MAX_URL_LENGTH} characters")


def _canonical_netloc(parts: SplitResult) -> str:
    if parts.scheme not in DEFAULT_PORTS:
        raise InvalidUrl("only absolute http:// and https:// URLs are taken")
    if "@" in parts.netloc:
        raise InvalidUrl("a URL with credentials is not taken; remove the part before the @")
    bracketed = parts.netloc.startswith("[")
    if bracketed and not _IPV6_NETLOC.fullmatch(parts.netloc):
        raise InvalidUrl(f"not a valid IPv6 address and port: {parts.netloc}")
    host = _canonical_host(parts.hostname or "", bracketed=bracketed)
    if parts.port in (None, DEFAULT_PORTS[parts.scheme]):
        return host
    return f"{host}:{parts.port}"


def _canonical_host(host: str, *, bracketed: bool) -> str:
    if not host:
        raise InvalidUrl("the URL names no host")
    if bracketed:
        return f"[{IPv6Address(host).compressed}]"
    name = host if host.isascii() else idna.encode(host, uts46=True).decode("ascii")
    if not _HOST_NAME.fullmatch(name):
        raise InvalidUrl(f"not a valid host name: {name}")
    return name
