"""From bytes to text, as a browser does it (WHATWG Encoding and MIME Sniffing standards).

Every expression here meets input that a stranger chose, so none may cost more than its input is
long. A repetition that could be matched in several ways is possessive (`*+`): it never gives
back what it has matched. Two such repetitions in a row once took a minute for 90,000 spaces.
"""

import codecs
import re

import webencodings
from charset_normalizer import from_bytes

from app.fetcher.labels import encoding_of
from app.fetcher.prescan import declared_encoding

_WINDOWS_1252 = webencodings.Encoding("windows-1252", codecs.lookup("cp1252"))
_BOMS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16le",
    codecs.BOM_UTF16_BE: "utf-16be",
}

_ESSENCE = re.compile(r"\s*([-!#$%&'*+.^_`|~0-9A-Za-z]+/[-!#$%&'*+.^_`|~0-9A-Za-z]+)")
# A parameter of a MIME type: its name and its value, which is quoted or goes on to the next ";".
_PARAMETER = re.compile(r""";([^;=]*+)(?:=[ \t]*+("(?:[^"\\]|\\.)*+|[^;]*+))?""", re.DOTALL)
_UNKNOWN_TYPES = {"unknown/unknown", "application/unknown", "*/*"}
_TEXT_SUFFIXES = ("+xml", "+json", "+yaml")
_TEXT_APPLICATIONS = {  # below application/, with `x-` in front or without
    "xml", "xml-dtd", "json", "json5", "ndjson", "jsonlines", "yaml", "toml", "graphql", "sql",
    "javascript", "ecmascript", "sh", "httpd-php", "www-form-urlencoded",
}  # fmt: skip

_PRESCAN_BYTES = 65_536
"""A browser looks at 1024 bytes first, and then changes its mind wherever it finds a `<meta>`."""

_SNIFFED_BYTES = 1445
_BINARY = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")

_DETECTED_BYTES = 16_384
_BLOCK_BYTES = 4096
_MIN_EVIDENCE_BYTES = 16
_NOT_ASCII = bytes(range(128, 256))
_BEYOND_ASCII = re.compile("[^\\x00-\\x7f]+")
# The encodings of other scripts than the Latin one. The detector's guess between windows-1250,
# -1252, -1254 and -1257 is wrong more often than windows-1252, the last resort, is.
_DETECTABLE = [
    "cp1251", "koi8_r", "cp1253", "cp1255", "cp1256", "cp1252",
    "shift_jis", "euc_jp", "gb18030", "big5", "euc_kr",
]  # fmt: skip


def essence(content_type: str | None) -> str | None:
    """Return the `type/subtype` of a `Content-Type`, in lower case, or None if it has none."""
    found = _ESSENCE.match(content_type or "")
    return found[1].lower() if found else None


def is_text(content: bytes, content_type: str | None) -> bool:
    """Tell whether this is text, by its type or, where that says nothing, by its bytes."""
    kind = essence(content_type)
    if kind is None or kind in _UNKNOWN_TYPES:
        return looks_like_text(content)
    top, _, name = kind.partition("/")
    if top == "application" and name.removeprefix("x-") in _TEXT_APPLICATIONS:
        return True
    return top == "text" or kind.endswith(_TEXT_SUFFIXES)


def looks_like_text(content: bytes | bytearray) -> bool:
    """Tell whether there is a BOM, or no binary data byte (MIME Sniffing, section 7.2)."""
    return bool(_bom(content)) or not _BINARY.search(content[:_SNIFFED_BYTES])


def decode_text(content: bytes, content_type: str | None, *, truncated: bool) -> tuple[str, str]:
    """Return the text and the WHATWG name of its encoding, as in `utf-8`.

    A byte order mark counts first, then the `charset` of the `Content-Type`, then what the
    document declares, then what the bytes look like; windows-1252 is the last resort. Bytes that
    are wrong in that encoding become U+FFFD. Where `content` was truncated in the middle of a
    character, that character is left out.
    """
    bom = _bom(content)
    encoding = (
        encoding_of(_BOMS.get(bom))
        or encoding_of(charset_parameter(content_type))
        or encoding_of(declared_encoding(content[:_PRESCAN_BYTES]))
        or encoding_of(_detected(content))
        or _WINDOWS_1252
    )
    decoder = encoding.codec_info.incrementaldecoder("replace")
    return decoder.decode(content[len(bom) :], final=not truncated), encoding.name


def _bom(content: bytes | bytearray) -> bytes:
    return next((bom for bom in _BOMS if content.startswith(bom)), b"")


def charset_parameter(content_type: str | None) -> str | None:
    """Return the first `charset` of a `Content-Type` (MIME Sniffing, section 4.4).

    More is taken than the standard allows: white space around the name and the value, and single
    quotes for double ones.
    """
    for name, value in _PARAMETER.findall(content_type or ""):
        if name.strip().lower() == "charset":
            return str(value).replace("\\", "").strip("\"' \t") or None
    return None


def _detected(content: bytes) -> str | None:
    sample = _sample(content)
    if _is_utf_8(sample):
        return "utf-8"
    if len(sample) - len(sample.translate(None, _NOT_ASCII)) < _MIN_EVIDENCE_BYTES:
        return None
    guess = from_bytes(sample, cp_isolation=_DETECTABLE).best()
    return guess.encoding.replace("_", "-") if guess else None


def _sample(content: bytes) -> bytes:
    """Return a part of `content` that is not all ASCII, cut between characters."""
    blocks = range(0, len(content), _BLOCK_BYTES)
    beyond_ascii = (at for at in blocks if not content[at : at + _BLOCK_BYTES].isascii())
    start = next(beyond_ascii, len(content))
    sample = content[start : start + _DETECTED_BYTES]
    if len(sample) < _DETECTED_BYTES:
        return sample
    # In no encoding of `_DETECTABLE` is one of these two a part of a longer character.
    end = max(sample.rfind(b"<", _BLOCK_BYTES), sample.rfind(b"\n", _BLOCK_BYTES))
    return sample[:end] if end > 0 else sample


def _is_utf_8(sample: bytes) -> bool:
    """Tell whether the bytes are UTF-8, except for a few that are wrong or cut at the end."""
    text = sample.decode("utf-8", "replace")
    beyond_ascii = sum(map(len, _BEYOND_ASCII.findall(text)))
    return text.count("\ufffd") * 10 <= beyond_ascii
