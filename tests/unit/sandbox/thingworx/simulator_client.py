"""A client that speaks to the simulated platform as documented clients do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import requests

if TYPE_CHECKING:
    from sandbox.thingworx.server import SimulatorServer

TIMEOUT = 10


class Client:
    """REST calls with the headers ThingWorx asks for; each may be overridden or, with None, left out."""

    def __init__(self, server: SimulatorServer) -> None:
        self.server = server
        self.session = requests.Session()
        self.headers: dict[str, str | None] = {
            "appKey": server.app_key,
            "Accept": "application/json",
            "Content-Type": "application/json",
            "x-thingworx-session": "false",
        }

    def call(self, method: str, path: str, body: Any = None, **headers: str | None) -> requests.Response:
        """One request under /Thingworx; header names with `_` for `-`."""
        sent = self.headers | {name.replace("_", "-"): value for name, value in headers.items()}
        return self.session.request(
            method,
            f"{self.server.url}/Thingworx/{path}",
            json=body,
            headers=sent,
            timeout=TIMEOUT,
            allow_redirects=False,
        )

    def service(self, path: str, **params: Any) -> requests.Response:
        """Invoke `<Collection>/<Entity>/<Service>`."""
        entity, _, name = path.rpartition("/")
        return self.call("POST", f"{entity}/Services/{name}", params)

    def rows(self, path: str, **params: Any) -> list[dict[str, Any]]:
        """Rows of a service that succeeds."""
        answer = self.service(path, **params)
        assert answer.status_code == 200, answer.text
        rows: list[dict[str, Any]] = answer.json()["rows"]
        return rows

    def value(self, thing: str, name: str) -> Any:
        """A property's current value."""
        answer = self.call("GET", f"Things/{thing}/Properties/{name}")
        assert answer.status_code == 200, answer.text
        return answer.json()["rows"][0].get(name)

    def push(self, thing: str, *rows: dict[str, Any]) -> requests.Response:
        """UpdateSubscribedPropertyValues with NamedVTQ rows."""
        return self.service(f"Things/{thing}/UpdateSubscribedPropertyValues", values=vtq_table(*rows))

    def control(self, method: str, path: str, body: Any = None) -> Any:
        """A call of the control API that succeeds."""
        answer = self.session.request(
            method,
            f"{self.server.control_url}/simulator{path}",
            json=body,
            headers={"X-Simulator-Control": "test"},
            timeout=TIMEOUT,
        )
        assert answer.ok, answer.text
        return answer.json()


def vtq_table(*rows: dict[str, Any]) -> dict[str, Any]:
    """A NamedVTQ table in its documented JSON form."""
    types = {"name": "STRING", "time": "DATETIME", "value": "VARIANT", "quality": "STRING"}
    fields = {name: {"name": name, "baseType": kind, "aspects": {}} for name, kind in types.items()}
    return {"dataShape": {"fieldDefinitions": fields}, "rows": list(rows)}
