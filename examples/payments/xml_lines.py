"""Reads an XML document into a small tree that keeps line numbers, and refuses what makes XML dangerous.

Invariants: a document type declaration is refused outright, so no entity can be declared, expanded or fetched;
nesting and the number of elements are bounded. Built on the standard library's expat binding. Called by the batch
reader only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from xml.parsers import expat

DEPTH_MAX = 32
ELEMENT_COUNT_MAX = 5_000_000


class XmlRefusedError(Exception):
    """The document is not well formed or uses what this reader refuses.

    Attributes:
        line: The line it was noticed on, from 1.
        reason: What is wrong.
    """

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}")
        self.line = line
        self.reason = reason


@dataclass(slots=True)
class Element:
    """One element: its namespace, local name, line, attributes, child elements and own text."""

    namespace: str
    name: str
    line: int
    attributes: dict[str, str]
    children: list[Element] = field(default_factory=list)
    text: str = ""

    def all(self, name: str) -> list[Element]:
        """The child elements of that local name, in the namespace of this element."""
        return [child for child in self.children if child.name == name and child.namespace == self.namespace]


def read_xml(document: bytes) -> Element:
    """Parses a document and returns its root.

    Raises:
        XmlRefusedError: It is not well formed, declares a document type, or is nested too deeply or too large.
    """
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    builder = _Builder(parser)
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.characters
    parser.StartDoctypeDeclHandler = builder.doctype
    try:
        parser.Parse(document, True)
    except expat.ExpatError as error:
        raise XmlRefusedError(error.lineno, f"not well-formed XML: {expat.ErrorString(error.code)}") from None
    # expat reports a document without a root element itself, so the root is there.
    return builder.root[0]


class _Builder:
    """The parser's handlers. The text of an element is joined once, when the element ends."""

    def __init__(self, parser: expat.XMLParserType) -> None:
        self._parser = parser
        self._open: list[tuple[Element, list[str]]] = []
        self._count = 0
        self.root: list[Element] = []

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        line = self._parser.CurrentLineNumber
        self._count += 1
        if self._count > ELEMENT_COUNT_MAX:
            raise XmlRefusedError(line, f"the document has more than {ELEMENT_COUNT_MAX:,} elements")
        if len(self._open) >= DEPTH_MAX:
            raise XmlRefusedError(line, f"elements are nested deeper than {DEPTH_MAX} levels")
        namespace, _, name = tag.rpartition(" ")
        element = Element(namespace, name, line, attributes)
        siblings = self._open[-1][0].children if self._open else self.root
        siblings.append(element)
        self._open.append((element, []))

    def end(self, _tag: str) -> None:
        element, pieces = self._open.pop()
        element.text = "".join(pieces).strip()

    def characters(self, text: str) -> None:
        self._open[-1][1].append(text)

    def doctype(self, _name: str, _system: str | None, _public: str | None, _has_subset: int) -> None:
        line = self._parser.CurrentLineNumber
        raise XmlRefusedError(line, "a document type declaration (DOCTYPE) is refused, because it can declare entities")
