"""XML that nobody has to trust: a document type is refused, so that no entity is ever expanded."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from ...files.errors import DetError
from ...files.regular import read_regular

MOST_BYTES = 512 * 2**20
"""A larger XML is not read; one file for all images (CVAT) may be large."""


class UnusableXml(DetError):
    """An XML file that cannot be used: the id of the finding, and its message."""


def parse_xml(file: Path, tag: str) -> Element:
    """The root element, which must be ``tag``; raises OSError or UnusableXml."""
    builder = TreeBuilder()

    def refuse(*_: Any) -> None:
        raise UnusableXml("xml-entity", "a document type, which may hold entities, is not read")

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(_bytes_of(file), True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise UnusableXml("xml-broken", f"is not valid XML: {error}") from None
    root = builder.close()
    if root.tag != tag:
        raise UnusableXml("xml-other", f"the root is <{root.tag[:40]}>, expected <{tag}>")
    return root


def _bytes_of(file: Path) -> bytes:
    data = read_regular(file, MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        message = f"more than {MOST_BYTES:,} bytes: too large to be read"
        raise UnusableXml("label-too-large", message)
    return data
