r"""Does a deployed stack carry a message from a device to ThingWorx? Each step: seen, or what to check.

    python -m tests.post_deployment --endpoint $(terraform -chdir=terraform output -raw iot_endpoint) \
        --ca AmazonRootCA1.pem --cert device.pem.crt --key device.private.key --thing MyTestDevice1 \
        [--topic /sample/topic] [--stack thingworx-connector] [--thingworx-url https://host/Thingworx]

Publishes {"temp": 10, "waterLevel": 12, "state": "reporting"} as the device, so the Thing needs these
properties. With --stack it also looks, by the AWS credentials of this terminal, at what the stack
knows of the Thing; with --thingworx-url it reads the values that arrived, with the application key in
the variable THINGWORX_APP_KEY. Exit code 0 when every step was seen.
"""

from __future__ import annotations

import argparse
import json
import os
import ssl
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import boto3
import requests
from paho.mqtt.client import Client, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["main"]

PAYLOAD = {"temp": 10, "waterLevel": 12, "state": "reporting"}
_MQTT_SECONDS = 15.0
_ARRIVAL_SECONDS = 60.0


class Step(NamedTuple):
    """One step: its name, whether it was seen (and what), and what to check when it wasn't."""

    name: str
    seen: str | None
    check: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; 0 when every step was seen. Ends at the first that wasn't."""
    options = _parser().parse_args(arguments)
    for step in _steps(options):
        if step.seen is None:
            print(f"NOT SEEN  {step.name}\n          check: {step.check}")  # noqa: T201 - for a terminal
            return 1
        print(f"seen      {step.name}: {step.seen}", flush=True)  # noqa: T201 - for a terminal
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--endpoint", required=True, help="output iot_endpoint of the stack")
    parser.add_argument("--port", type=int, default=8883)
    parser.add_argument("--ca", required=True, help="PEM file of the endpoint's authority")
    parser.add_argument("--cert", required=True, help="PEM file of the device's certificate")
    parser.add_argument("--key", required=True, help="PEM file of the device's private key")
    parser.add_argument("--thing", required=True, help="Thing name, which is the MQTT client id too")
    parser.add_argument("--topic", default="/sample/topic", help="one that telemetry_topics matches")
    parser.add_argument("--stack", help="the stack's name; looks at its tables")
    parser.add_argument("--thingworx-url", help="https://host/Thingworx; reads the values there")
    parser.add_argument(
        "--thingworx-ca", help="PEM file of ThingWorx's authority, where it isn't a public one"
    )
    return parser


def _steps(options: argparse.Namespace) -> Iterator[Step]:
    start = int(time.time() * 1000)
    yield from _mqtt(options)
    if options.stack:
        yield from _stack(options, start)
    if options.thingworx_url:
        yield _values(options, start)


def _mqtt(options: argparse.Namespace) -> Iterator[Step]:
    connected = threading.Event()
    client = Client(CallbackAPIVersion.VERSION2, client_id=options.thing, protocol=MQTTv311)
    client.on_connect = lambda *seen: None if seen[3].is_failure else connected.set()
    failure = ""
    try:
        context = ssl.create_default_context(cafile=options.ca)
        context.load_cert_chain(options.cert, options.key)
        client.tls_set_context(context)
        client.connect(options.endpoint, options.port, keepalive=30)
        client.loop_start()
    except OSError as error:  # TLS errors are of this kind too
        failure = f" ({error})"
    try:
        up = not failure and connected.wait(_MQTT_SECONDS)
        yield Step(
            "connected over MQTT with TLS",
            f"{options.thing} at {options.endpoint}:{options.port}" if up else None,
            f"endpoint, port, and that the certificate is active with a policy that allows iot:Connect as"
            f" {options.thing}{failure}",
        )
        message = client.publish(options.topic, json.dumps(PAYLOAD), qos=1)
        message.wait_for_publish(_MQTT_SECONDS)
        yield Step(
            "message acknowledged",
            f"{json.dumps(PAYLOAD)} on {options.topic}" if message.is_published() else None,
            f"that the certificate's policy allows iot:Publish on {options.topic}",
        )
    finally:
        client.disconnect()
        client.loop_stop()


def _stack(options: argparse.Namespace, start: int) -> Iterator[Step]:
    client = boto3.client("dynamodb")

    def item(pk: str, sk: str) -> dict[str, Any]:
        key = {"pk": {"S": pk}, "sk": {"S": sk}}
        answer = client.get_item(TableName=f"{options.stack}-control", Key=key, ConsistentRead=True)
        return dict(answer.get("Item", {}))

    thing = item(f"thing#{options.thing}", "thing")
    slot = thing["slot"]["S"] if thing.get("state", {}).get("S") == "assigned" else None
    yield Step(
        "Thing known to the stack",
        slot and f"in slot {slot}",
        f"that {options.thing} exists in ThingWorx with the tag in thing_tag, and that a discovery run has"
        " succeeded since (output first_discovery_command)",
    )
    served = _wait(lambda: int(item("slots", slot or "").get("until", {"N": "0"})["N"]) > time.time() * 1000)
    yield Step(
        "slot served by a connector",
        f"slot {slot}" if served else None,
        f"executions of the state machine {options.stack}-connector and the log group"
        f" /aws/lambda/{options.stack}-connector",
    )
    held = _held(client, f"{options.stack}-held", options.thing, start)
    yield Step(
        "nothing held back",
        None if held else f"no reading of {options.thing} since this test began",
        f"the base types and bindings of its properties; the held table says: {'; '.join(held)}",
    )


def _held(client: Any, table: str, thing: str, start: int) -> list[str]:
    """Reasons of the Thing's held readings since `start`; looks for some seconds, then there are none."""
    found: list[str] = []

    def look() -> bool:
        for state in ("unrouted", "rejected", "parked"):
            answer = client.query(
                TableName=table,
                KeyConditionExpression="pk = :pk AND sk >= :start",
                ExpressionAttributeValues={
                    ":pk": {"S": f"{state}#{thing}"},
                    # Broker and this machine may differ by some seconds.
                    ":start": {"S": f"{start - 5000:013d}"},
                },
            )
            found.extend(f"{state}: {entry['reason']['S']}" for entry in answer["Items"])
        return bool(found)

    _wait(look, 10)
    return found


def _values(options: argparse.Namespace, start: int) -> Step:
    url = f"{options.thingworx_url.rstrip('/')}/Things/{options.thing}/Services/GetPropertyValuesVTQ"
    seen: dict[str, Any] = {}
    failure = ""

    def arrived() -> bool:
        nonlocal failure
        try:
            answer = requests.post(
                url,
                headers={"appKey": os.environ.get("THINGWORX_APP_KEY", ""), "Accept": "application/json"},
                json={},
                verify=options.thingworx_ca or True,
                timeout=10,
                allow_redirects=False,
            )
            answer.raise_for_status()
            rows = answer.json()["rows"]
        except (requests.RequestException, ValueError, KeyError) as error:
            failure = f" ({error})"
            return False
        seen.update(
            {
                row["name"]: row["value"]
                for row in rows
                if row["name"] in PAYLOAD and row["time"] >= start - 5000 and row["quality"] == "GOOD"
            }
        )
        return seen.keys() == PAYLOAD.keys()

    complete = _wait(arrived)
    missing = ", ".join(sorted(PAYLOAD.keys() - seen.keys()))
    return Step(
        "values in ThingWorx",
        json.dumps(seen) if complete and seen == PAYLOAD else None,
        f"that {missing or 'each property'} has the category in property_category, is bound remotely under"
        f" the same name with a push type other than NEVER, and that the application key may read the"
        f" Thing{failure}",
    )


def _wait(look: Callable[[], bool], seconds: float = _ARRIVAL_SECONDS) -> bool:
    deadline = time.monotonic() + seconds
    while not (seen := look()) and time.monotonic() < deadline:
        time.sleep(0.5)
    return seen


if __name__ == "__main__":
    sys.exit(main())
