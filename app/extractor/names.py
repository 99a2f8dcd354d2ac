"""The name of an author in a text that may hold more: "By Jane Doe | 3 May"."""
# ruff: noqa: RUF001 (pages have dashes and full-width colons that look like others)

import re

from app.extractor.bounds import MAX_NAME
from app.extractor.text import clean


def _any_of(words: str) -> str:
    return "|".join(words.split())


# What stands in front of "by", as in "View all posts by" or "Zeige alle Beiträge von".
_BEFORE_BY = _any_of(
    "view show see read all more other post posts article articles entries story stories words "
    "text texts interview recipe written posted published submitted reported created profile "
    "archive follow zeige zeigt anzeigen alle alles mehr ein eine der die beitrag beiträge artikel "
    "texte rezept profil archiv geschrieben publiziert veröffentlicht gepostet eingestellt "
    "erstellt verfasst gespeichert afficher voir tous les mon complet publié écrit rédigé proposé "
    "posté ver todas las todos los entradas artículos publicado publicada escrito enviado os "
    "artigos vedi visualizza tutti gli articoli scritto pubblicato bekijk berichten geschreven "
    "geplaatst"
)
# "By" in other languages, and the beginning of names: "von Jane Doe", but "Von Trapp".
_PARTICLES = "von|vom|par|por|di|door|av|af"
_PARTICLE = re.compile(rf"\s*+(?:{_PARTICLES})\s++", re.IGNORECASE)
_LEAD = rf"(?:(?:{_BEFORE_BY})\s++){{1,8}}+"
_BY = re.compile(
    rf"(?:(?:{_LEAD})?+by|{_LEAD}(?:{_PARTICLES}|of|de|da|from)"
    rf"|(?:{_PARTICLES})(?=\s++[^\s,]++\s)"
    r"|(?:autor(?:in)?|author|auteur|автор)(?:\(s\)|[/:*]in)?)(?!\w)[: ]*+"
    r"|(?:autor(?:en|es)|authors|auteurs)\s*+:\s*+"
    rf"|(?:(?:{_BEFORE_BY}|und|and)(?!\w)\s*+){{1,8}}+(?:[:：]\s*+|$)"
    r"|(?:文|作者|記者|记者)\s*+[:：/]\s*+",
    re.IGNORECASE,
)
_ADDRESS = re.compile(r"^(?:https?:)?//|^www\.|^[/#]|^mailto:", re.IGNORECASE)
_HANDLE = re.compile(r"^@\w{1,50}$")
_CREDIT = re.compile(
    r"(?:fotos?|photos?|bild|bilder|images?|quelle|source)\s*+[:：]", re.IGNORECASE
)
_EMAIL = re.compile(r"\s*+[(<]?\b[^\s()<>@]{1,64}@[^\s()<>@]{1,255}[)>]?")
_IN_PARENTHESES = re.compile(r"^\(([^()]*+)\)$")
_BEHIND_NAME = re.compile(
    r"\s*+[|•·–—].*+|\s(?:-|on|updated)\s.*+|\s@\w.*+|\s\([^()]*+\)?$", re.IGNORECASE
)
_AROUND_NAME = " ,;:|-–—•·~→»«"
_NOBODY = frozenset({"admin", "administrator", "unknown", "anonymous", "author", "null", "none",
                     "undefined", "n/a", "user", "root", "webmaster", "editor", "no author",
                     "wordpressadmin", "wpadmin", "super user", "on", "updated", "share",
                     "about the author"})  # fmt: skip


def byline_name(text: str) -> str | None:
    """Return the name in a byline, which begins with "by", or "von" and the like, or with neither.

    Elsewhere "Von Trapp" is a name as it stands.
    """
    particle = _PARTICLE.match(text)
    return author_name(text[particle.end() :] if particle else text)


def author_name(text: str) -> str | None:
    """Return a name without "by" and the like, or None for an address or nobody in particular."""
    name = clean(text[: 4 * MAX_NAME]).strip(_AROUND_NAME)
    if _ADDRESS.match(name) or _HANDLE.match(name) or _CREDIT.match(name):
        return None
    if by := _BY.match(name):
        name = name[by.end() :]
    name = _EMAIL.sub("", name).strip(_AROUND_NAME)
    name = _IN_PARENTHESES.sub(r"\1", name)
    name = _BEHIND_NAME.sub("", name).strip(_AROUND_NAME)
    if len(name) > MAX_NAME or name.lower() in _NOBODY or not any(map(str.isalpha, name)):
        return None
    return name
