"""Under which beginnings of words a page is found: those of its host and of its title.

A record lists its words, each whole and by its first two and its first three characters. An index
of the database has each of these terms together with the time at which the record was made. So the
newest pages for two or three characters are read from the index in order, however many there are.
What is longer is a range of words, of which there are few; one character begins so many that the
newest pages of all soon have enough of them.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from unicodedata import normalize

PREFIX_LENGTHS = (2, 3)
"""More of them would make the index larger: a term of a record takes some 28 bytes of it."""

MAX_WORDS = 12
"""How many words of a title are listed: what is typed comes from the beginning of it."""

MAX_WORD_LENGTH = 64
"""What is longer counts with its first 64 characters."""

_EDGES = re.compile(r"^\W+|\W+$")
_INSIDE = re.compile(r"\W+")
_PART_OF_NAME = re.compile(r"[^.-]+")


def search_terms(host: str, title: str | None) -> list[str]:
    """Return all under which a page is found, without duplicates."""
    of_title = (it for word in search_words(title or "")[:MAX_WORDS] for it in _terms_of(word))
    return list(dict.fromkeys((*_host_terms(host), *of_title)))


def search_words(text: str) -> list[str]:
    """Return the words of a text: what stands between white space, without marks around it."""
    words = (_EDGES.sub("", part) for part in normalize("NFKC", text).casefold().split())
    return [word[:MAX_WORD_LENGTH] for word in words if word]


@lru_cache(maxsize=4096)
def _host_terms(host: str) -> tuple[str, ...]:
    """Return the terms of a host, which is found from the beginning of each part of its name on.

    `www.my-shop.example` so has the words `www.my-shop.example`, `my-shop.example` and
    `shop.example`. The last label is none: most hosts end with the same few.
    """
    host = host.strip("[]")  # those of an IPv6 address
    last_label = host.rfind(".")
    starts = [part.start() for part in _PART_OF_NAME.finditer(host)]
    words = [host[start:] for start in starts if start <= last_label] or [host]
    return tuple(it for word in words for it in _beginnings(word[:MAX_WORD_LENGTH]))


def _terms_of(word: str) -> Iterator[str]:
    """Yield the beginnings of a word, and of each part of one such as `e-mail`."""
    yield from _beginnings(word)
    for part in _INSIDE.split(word)[1:]:
        yield from _beginnings(part)


def _beginnings(word: str) -> Iterator[str]:
    yield from (word[:length] for length in PREFIX_LENGTHS)
    yield word
