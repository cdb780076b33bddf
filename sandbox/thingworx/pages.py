"""HTML: what a client gets that doesn't ask for JSON, and error pages."""

from __future__ import annotations

from html import escape
from http import HTTPStatus
from typing import TYPE_CHECKING

import orjson

from sandbox.thingworx.infotable import json_value

if TYPE_CHECKING:
    from sandbox.thingworx.infotable import InfoTable

__all__ = ["error_page", "table_page"]


def error_page(status: int, message: str) -> str:
    """An error page as a servlet container shows it."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Error"
    title = f"HTTP Status {status} – {phrase}"  # noqa: RUF001 - the dash the container's own pages have
    return (
        f'<!doctype html><html lang="en"><head><title>{escape(title)}</title></head><body>'
        f"<h1>{escape(title)}</h1><hr><p><b>Message</b> {escape(message)}</p></body></html>"
    )


def table_page(table: InfoTable, title: str) -> str:
    """A table for people to read."""
    heads = "".join(f"<th>{escape(f.name)}</th>" for f in table.fields)
    lines = []
    for row in table.rows:
        cells = (json_value(row.get(f.name)) for f in table.fields)
        texts = (cell if isinstance(cell, str) else orjson.dumps(cell).decode() for cell in cells)
        lines.append("<tr>" + "".join(f"<td>{escape(text)}</td>" for text in texts) + "</tr>")
    return (
        f'<!doctype html><html lang="en"><head><title>{escape(title)}</title></head><body><table>'
        f"<tr>{heads}</tr>{''.join(lines)}</table></body></html>"
    )
