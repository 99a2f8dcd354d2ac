"""What is left out of a page before anything of it is stored or told."""

from dataclasses import dataclass, replace

from app.models import Cookie, Header, PageMetadata, Redirect

SET_COOKIE = "set-cookie"


@dataclass(frozen=True, slots=True)
class Redaction:
    """What an operator does not want to keep of any page.

    A header or cookie whose name is among `names` (in lower case) is kept with an empty value. What
    was derived from it before stays: the content type, the character encoding, the document, and
    the URLs that redirects led to.
    """

    names: frozenset[str] = frozenset()

    keeps_source: bool = True

    def applied_to(self, page: PageMetadata) -> PageMetadata:
        """Return what is kept of a page. Its hash and sizes are those of what was fetched."""
        if self.names:
            page = self._without_values(page)
        return page if self.keeps_source else replace(page, page_source=None)

    def _without_values(self, page: PageMetadata) -> PageMetadata:
        return replace(
            page,
            headers=tuple(map(self._header, page.headers)),
            cookies=tuple(map(self._cookie, page.cookies)),
            redirects=tuple(map(self._redirect, page.redirects)),
        )

    def _header(self, header: Header) -> Header:
        name = header.name.lower()
        # Without its own value a cookie would still be read in the header that sets it.
        sets_redacted = name == SET_COOKIE and _cookie_name(header.value) in self.names
        return replace(header, value="") if name in self.names or sets_redacted else header

    def _cookie(self, cookie: Cookie) -> Cookie:
        is_redacted = SET_COOKIE in self.names or cookie.name.lower() in self.names
        return replace(cookie, value="") if is_redacted else cookie

    def _redirect(self, redirect: Redirect) -> Redirect:
        """Return a redirect, of whose headers the `Location` alone is kept."""
        return replace(redirect, location="") if "location" in self.names else redirect


def _cookie_name(set_cookie: str) -> str:
    """Return the name that a `Set-Cookie` header gives its cookie, as `parse_cookie()` reads it."""
    name, equals, _ = set_cookie.partition(";")[0].partition("=")
    return name.strip().lower() if equals else ""
