"""From bytes to text, the way a browser goes about it (WHATWG Encoding and MIME Sniffing)."""

import codecs
import re

import webencodings
from charset_normalizer import from_bytes

_WINDOWS_1252 = webencodings.Encoding("windows-1252", codecs.lookup("cp1252"))
_BOMS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16le",
    codecs.BOM_UTF16_BE: "utf-16be",
}

_ESSENCE = re.compile(r"\s*([-!#$%&'*+.^_`|~0-9A-Za-z]+/[-!#$%&'*+.^_`|~0-9A-Za-z]+)")
_CHARSET = re.compile(r""";\s*charset\s*=\s*["']?\s*([^\s"';]+)""", re.IGNORECASE)
_UNKNOWN_TYPES = {"unknown/unknown", "application/unknown", "*/*"}
_TEXT_TYPES = re.compile(
    r"text/.+|.+[+](xml|json|yaml)|application/(x-)?"
    r"(xml|json|json5|ndjson|jsonlines|javascript|ecmascript|yaml|toml|www-form-urlencoded"
    r"|graphql|sql|sh|httpd-php|xml-dtd)"
)

_PRESCAN_BYTES = 4096
_COMMENT = re.compile(rb"<!--.*?-->", re.DOTALL)
_META = re.compile(rb"""<meta\b[^<>]*?\bcharset\s*=\s*["']?\s*([^\s"'/<>;]+)""", re.IGNORECASE)
_XML_DECLARATION = re.compile(rb"""\s*<\?xml\b[^<>]*?\bencoding\s*=\s*["']([^"'<>]+)["']""")

_SNIFFED_BYTES = 1445
_BINARY = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")

_DETECTED_BYTES = 16_384
_BLOCK_BYTES = 4096
_MIN_EVIDENCE_BYTES = 16
_NOT_ASCII = bytes(range(128, 256))
_BEYOND_ASCII = re.compile("[^\\x00-\\x7f]+")
# Scripts that differ from Latin enough to be told apart. Latin ones are not told apart: the
# guess between windows-1250, -1252, -1254 and -1257 is wrong more often than the last resort.
_DETECTABLE = [
    "cp1251", "koi8_r", "cp1253", "cp1255", "cp1256", "cp1252",
    "shift_jis", "euc_jp", "gb18030", "big5", "euc_kr",
]  # fmt: skip


def essence(content_type: str | None) -> str | None:
    """Return the `type/subtype` of a `Content-Type`, in lower case, or None if it has none."""
    found = _ESSENCE.match(content_type or "")
    return found[1].lower() if found else None


def is_text(content: bytes, content_type: str | None) -> bool:
    """Tell text from the rest, by its type or, where that says nothing, by its bytes."""
    kind = essence(content_type)
    if kind is None or kind in _UNKNOWN_TYPES:
        return looks_like_text(content)
    return bool(_TEXT_TYPES.fullmatch(kind))


def looks_like_text(content: bytes | bytearray) -> bool:
    """Tell whether there is a BOM, or no binary data byte (MIME Sniffing, section 7.2)."""
    return bool(_bom(content)) or not _BINARY.search(content[:_SNIFFED_BYTES])


def decode_text(content: bytes, content_type: str | None, *, truncated: bool) -> tuple[str, str]:
    """Return the text and the WHATWG name of its encoding, as in `utf-8`.

    A BOM counts first, then the `charset` of the `Content-Type`, then what the document says,
    then what the bytes look like; windows-1252 is the last resort. What is wrong in the
    encoding chosen becomes U+FFFD. A character cut in half where `content` was truncated is
    left out.
    """
    bom = _bom(content)
    encoding = (
        _lookup(_BOMS.get(bom))
        or _lookup(_declared_by_header(content_type))
        or _lookup(_declared_by_document(content))
        or _lookup(_detected(content))
        or _WINDOWS_1252
    )
    decoder = encoding.codec_info.incrementaldecoder("replace")
    return decoder.decode(content[len(bom) :], final=not truncated), encoding.name


def _bom(content: bytes | bytearray) -> bytes:
    return next((bom for bom in _BOMS if content.startswith(bom)), b"")


def _lookup(label: str | None) -> webencodings.Encoding | None:
    """Return the encoding that WHATWG gives the label, if it has one.

    Those it replaces by a lone U+FFFD, out of caution about scripts, are left to detection: here
    nothing runs, and a page should not be lost.
    """
    encoding = webencodings.lookup(label) if label else None
    return None if encoding and encoding.name == "replacement" else encoding


def _declared_by_header(content_type: str | None) -> str | None:
    found = _CHARSET.search(content_type or "")
    return found[1] if found else None


def _declared_by_document(content: bytes) -> str | None:
    """Return the label in a `<meta>` or an XML declaration (HTML, section 13.2.3.2)."""
    start = _COMMENT.sub(b"", content[:_PRESCAN_BYTES])
    found = _XML_DECLARATION.match(start) or _META.search(start)
    label = found[1].decode("latin-1") if found else None
    # What could be read as ASCII to get here is not UTF-16, whatever it says.
    return "utf-8" if (label or "").lower().startswith("utf-16") else label


def _detected(content: bytes) -> str | None:
    sample = _sample(content)
    if _is_utf_8(sample):
        return "utf-8"
    if len(sample) - len(sample.translate(None, _NOT_ASCII)) < _MIN_EVIDENCE_BYTES:
        return None
    guess = from_bytes(sample, cp_isolation=_DETECTABLE).best()
    return guess.encoding.replace("_", "-") if guess else None


def _sample(content: bytes) -> bytes:
    """Return some of the bytes from about the first on that is not ASCII, in whole characters."""
    blocks = range(0, len(content), _BLOCK_BYTES)
    beyond_ascii = (at for at in blocks if not content[at : at + _BLOCK_BYTES].isascii())
    start = next(beyond_ascii, len(content))
    sample = content[start : start + _DETECTED_BYTES]
    if len(sample) < _DETECTED_BYTES:
        return sample
    # Neither sign is a part of a character in the multi-byte encodings in question.
    end = max(sample.rfind(b"<", _BLOCK_BYTES), sample.rfind(b"\n", _BLOCK_BYTES))
    return sample[:end] if end > 0 else sample


def _is_utf_8(sample: bytes) -> bool:
    """Tell whether the bytes are UTF-8, but for a slip of the pen or a cut at the end."""
    text = sample.decode("utf-8", "replace")
    beyond_ascii = sum(map(len, _BEYOND_ASCII.findall(text)))
    return text.count("\ufffd") * 10 <= beyond_ascii
