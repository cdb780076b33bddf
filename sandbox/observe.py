"""What a deployed sandbox shows of itself: slots, held readings, counters."""

from __future__ import annotations

import json
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from lambdas.shared.control_table import ControlTable
from lambdas.shared.dynamo import from_item

if TYPE_CHECKING:
    from lambdas.shared.control_table import Slot
    from sandbox.stack import Sandbox

__all__ = ["Observer", "Write"]


class Write(NamedTuple):
    """One value that ThingWorx took."""

    thing: str
    property: str
    value: Any
    time: int


class Observer:
    """Reads a deployed sandbox the way an operator would: through AWS's and ThingWorx's own APIs.

    Args:
        sandbox: with its stack deployed.
    """

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._dynamodb = sandbox.client("dynamodb")
        self._logs = sandbox.client("logs")
        self._stepfunctions = sandbox.client("stepfunctions")
        self._control = ControlTable(sandbox.outputs["control_table_name"], self._dynamodb)

    def slots(self) -> list[Slot]:
        """All slots of the control table."""
        return self._control.slots()

    def owners(self) -> dict[str, str]:
        """Slot id -> owner, for slots whose lease is live."""
        now = time.time() * 1000
        return {slot.id: slot.owner for slot in self.slots() if slot.owner and (slot.until or 0) > now}

    def running_connectors(self) -> int:
        """Connector executions that run."""
        answer = self._stepfunctions.list_executions(
            stateMachineArn=self._sandbox.outputs["connector_state_machine_arn"], statusFilter="RUNNING"
        )
        return len(answer["executions"])

    def held(self) -> list[dict[str, Any]]:
        """Items of the held table, allowances aside."""
        pages = self._dynamodb.get_paginator("scan").paginate(
            TableName=self._sandbox.outputs["held_table_name"], ConsistentRead=True
        )
        items = [from_item(item) for page in pages for item in page["Items"]]
        return [item for item in items if not item["pk"].startswith("allowance#")]

    def counters(self, part: str) -> Counter[str]:
        """Sums of the counters that a function has logged."""
        sums: Counter[str] = Counter()
        pages = self._logs.get_paginator("filter_log_events").paginate(
            logGroupName=self._sandbox.outputs["log_group_names"][part], filterPattern='"_aws"'
        )
        for page in pages:
            for event in page["events"]:
                sums.update(_metrics(event["message"]))
        return sums

    def connected(self) -> int:
        """Things that ThingWorx shows as connected."""
        platform = self._sandbox.platform
        with platform.lock:
            states = [thing.values.get("isConnected") for thing in platform.things.values()]
        return sum(state is not None and state.value is True for state in states)

    def current(self, thing: str, name: str) -> Any:
        """A property's current value in ThingWorx, None when it has none."""
        platform = self._sandbox.platform
        with platform.lock:
            stored = platform.things[thing].values.get(name)
        return stored.value if stored else None

    def writes(self) -> list[Write]:
        """Everything ThingWorx accepted, in the order it came."""
        platform = self._sandbox.platform
        with platform.lock:
            records = platform.log.since(0)
        return [Write(record.thing, record.property, record.value, record.time) for record in records]


def _metrics(line: str) -> dict[str, int]:
    """Counters of one line in CloudWatch's embedded metric format, fields too; empty for any other line."""
    try:
        record = json.loads(line)
    except ValueError:
        return {}
    if not isinstance(record, dict) or "_aws" not in record:
        return {}
    return {name: value for name, value in record.items() if isinstance(value, int) and ":" not in name}
