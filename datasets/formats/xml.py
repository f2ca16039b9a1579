"""XML that nobody has to trust: a document type is refused, so that no entity is ever expanded."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from ...files.errors import DetError


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
        parser.Parse(file.read_bytes(), True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise UnusableXml("xml-broken", f"is not valid XML: {error}") from None
    root = builder.close()
    if root.tag != tag:
        raise UnusableXml("xml-other", f"the root is <{root.tag[:40]}>, expected <{tag}>")
    return root
