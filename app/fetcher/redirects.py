"""Where a redirect leads, and which cookies go along."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime

import httpx
from ada_url import URL

from app.errors import FetchError
from app.fetcher.cookies import default_path, parse_cookie
from app.fetcher.guard import literal_address
from app.fetcher.head import ResponseHead
from app.models import Cookie, ErrorKind, Header
from app.urls import MAX_GIVEN_LENGTH, MAX_URL_LENGTH, absolute_url

_CONTROL_CHARACTER = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


def redirect_target(url: httpx.URL, head: ResponseHead) -> httpx.URL | None:
    """Return where the answer to a request for `url` redirects to, if it does.

    Several `Location` headers count as one if they are equal. Where they differ nobody knows
    where the answer leads, and it is taken as a page. An empty one leads nowhere, as in Chromium
    (`HttpResponseHeaders::IsRedirect`). Raises `FetchError` if it leads to no URL, or to a longer
    one than the service takes.
    """
    locations = set(head.values("location")) - {""}
    if head.status_code not in _REDIRECTS or len(locations) != 1:
        return None
    location = _as_text(locations.pop())
    if len(location) > MAX_GIVEN_LENGTH:
        raise _too_long()
    try:
        target = _joined(url, location)
    except (httpx.InvalidURL, ValueError) as exc:  # ValueError is what urllib and idna raise
        raise FetchError(
            ErrorKind.INVALID_RESPONSE, "the server redirects to an invalid URL", retryable=False
        ) from exc
    # The record repeats parts of the URL, such as the path in each cookie, so its length counts.
    if len(str(target)) > MAX_URL_LENGTH:
        raise _too_long()
    return target


def _too_long() -> FetchError:
    return FetchError(
        ErrorKind.INVALID_RESPONSE,
        f"the server redirects to a URL of more than {MAX_URL_LENGTH} characters",
        retryable=False,
    )


def _as_text(location: str) -> str:
    """Return a header value, which holds one character for each byte, as UTF-8 if it is."""
    try:
        return location.encode("latin-1").decode()
    except UnicodeDecodeError:
        return location


def _joined(base: httpx.URL, location: str) -> httpx.URL:
    """Return `location` as seen from `base`, in its canonical form if it has one.

    What has none, such as a URL with credentials, is returned as a browser reads it: `check_url()`
    says what is wrong with it. Raises `ValueError` for what is no URL to a browser.
    """
    target = absolute_url(str(base), location)
    return httpx.URL(target or URL(location, str(base)).href)


class CookieJar:
    """The cookies set on the way to one page, sent on as a browser would (RFC 6265, section 5).

    They are kept by name, scope and path. The scope is the one host that a cookie goes back to
    or, with a dot in front, the domain of all the hosts that it goes to.
    """

    def __init__(self) -> None:
        self._cookies: dict[tuple[str, str, str], Cookie] = {}

    def keep(self, url: httpx.URL, headers: Iterable[Header]) -> None:
        """Remember the cookies that the answer to a request for `url` set.

        A cookie with control characters is ignored, as browsers do: it would break the request.
        """
        for header in headers:
            if header.name == "set-cookie" and not _CONTROL_CHARACTER.search(header.value):
                self._keep(url, header.value)

    def header_for(self, url: httpx.URL) -> list[tuple[str, str]]:
        """Return the `Cookie` header of a request for `url`, if there is one."""
        sent = [
            (path, f"{name}={cookie.value}" if name else cookie.value)
            for (name, scope, path), cookie in self._cookies.items()
            if _reaches(url, scope, path) and _is_safe(url, cookie)
        ]
        sent.sort(key=lambda pair: len(pair[0]), reverse=True)  # the longest path comes first
        return [("Cookie", "; ".join(text for _, text in sent))] if sent else []

    def _keep(self, url: httpx.URL, text: str) -> None:
        # Parsed without a host to fall back to: a cookie for one host alone has no domain then.
        cookie = parse_cookie(text, "", path_of(url))
        scope = _scope(cookie.domain or "", sent_host_of(url))
        path = cookie.path or ""
        key = (cookie.name, scope, path if path.startswith("/") else default_path(path_of(url)))
        if _has_expired(cookie):
            self._cookies.pop(key, None)
        elif scope and _is_safe(url, cookie):
            self._cookies[key] = cookie


def _scope(domain: str, host: str) -> str:
    """Return the scope of a cookie that `host` sets for `domain`; none if it may not.

    No host may set cookies for a whole top-level domain, nor an address for a part of itself.
    """
    domain = domain.lower().lstrip(".")
    if domain in {"", host} and (not domain or literal_address(host)):
        return host
    is_above = "." in domain and f".{host}".endswith(f".{domain}") and not literal_address(host)
    return f".{domain}" if is_above else ""


def _reaches(url: httpx.URL, scope: str, path: str) -> bool:
    host, asked_for = sent_host_of(url), path_of(url)
    is_in_domain = f".{host}".endswith(scope) if scope.startswith(".") else host == scope
    is_below_path = asked_for.startswith(path if path.endswith("/") else f"{path}/")
    return is_in_domain and (is_below_path or asked_for == path)


def _is_safe(url: httpx.URL, cookie: Cookie) -> bool:
    return url.scheme == "https" or not cookie.secure


def _has_expired(cookie: Cookie) -> bool:
    """Tell whether a cookie is sent in order to be deleted; `Max-Age` has the last word."""
    if cookie.max_age is not None:
        return cookie.max_age <= 0
    return cookie.expires is not None and cookie.expires <= datetime.now(UTC)


def sent_host_of(url: httpx.URL) -> str:
    """Return the host of `url` as it is sent: international names are encoded by IDNA."""
    return url.raw_host.decode("ascii")


def path_of(url: httpx.URL) -> str:
    """Return the path of `url` as it is sent, without its query."""
    return url.raw_path.partition(b"?")[0].decode("ascii")
