"""What a label such as `latin1` means (WHATWG Encoding standard, section 4.2)."""

import webencodings


def encoding_of(label: str | None) -> webencodings.Encoding | None:
    """Return the encoding that the standard gives the label, if it has one.

    Browsers show nothing but U+FFFD for a few labels, so that no script can hide in their
    encodings. Here no script runs, and the encoding of such a page is detected instead.
    """
    encoding = webencodings.lookup(label) if label else None
    return None if encoding and encoding.name == "replacement" else encoding
