"""A stack's life: deployed, in use, changed, struck, destroyed. One sandbox, the tests in this order.

2,500 Things make three slots. One Thing of each slot publishes four times a second all the while.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import pytest

from lambdas.shared.control_table import ControlTable
from sandbox.demo import run_discovery
from sandbox.observe import Observer
from sandbox.stack import Sandbox
from sandbox.terraform import TerraformError
from sandbox.thingworx.model import remote_property
from tests.e2e.processes import environment_of, kill_environment, processes_of, streams
from tests.e2e.traffic import TOPIC, Traffic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sandbox.terraform import Terraform

ROOT = Path(__file__).resolve().parent.parent.parent
T = TypeVar("T")
pytestmark = pytest.mark.timeout(400)

THINGS = 2500
SLOTS = 3
TEST_DEVICE = "MyTestDevice1"
TEST_PROPERTIES = [("temp", "NUMBER"), ("waterLevel", "INTEGER"), ("state", "STRING")]
#: Printed by the changed code when an environment starts.
MARK = "code of the second apply"


class Deployed(NamedTuple):
    """A sandbox with its stack, what looks at it, and devices that publish."""

    sandbox: Sandbox
    terraform: Terraform
    observer: Observer
    control: ControlTable
    traffic: Traffic


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    folder = tmp_path_factory.mktemp("lifecycle")
    with Sandbox(folder) as sandbox:
        sandbox.platform.add_thing(TEST_DEVICE, properties=[remote_property(*it) for it in TEST_PROPERTIES])
        for number in range(THINGS - 1):
            sandbox.platform.add_thing(f"Pump{number:04d}", properties=[remote_property("temp", "INTEGER")])
        sandbox.build()
        terraform = sandbox.deploy()
        observer = Observer(sandbox)
        assert run_discovery(sandbox) == "SUCCEEDED"
        control = ControlTable(sandbox.outputs["control_table_name"], sandbox.client("dynamodb"))
        things = [control.things_of(slot.id)[-1].name for slot in control.slots()]
        with Traffic(sandbox, things) as traffic:
            yield Deployed(sandbox, terraform, observer, control, traffic)
    assert processes_of(folder) == []


def wait_for(what: str, look: Callable[[], T | None], seconds: float) -> T:
    """Look until there is something; fail when the time is over."""
    deadline = time.monotonic() + seconds
    while (seen := look()) is None:
        assert time.monotonic() < deadline, f"no {what} after {seconds} s"
        time.sleep(0.3)
    return seen


def test_2500_things_make_three_slots_and_each_is_served(deployed: Deployed) -> None:
    observer = deployed.observer
    sizes = [len(deployed.control.things_of(slot.id)) for slot in observer.slots()]
    assert sizes == [1000, 1000, 500]
    wait_for("three owners", lambda: len(observer.owners()) == SLOTS or None, 60)
    assert observer.running_connectors() == SLOTS
    assert deployed.traffic.wait_for_arrival(observer, 30) == set()


def test_the_post_deployment_test_sees_every_step(deployed: Deployed) -> None:
    done = post_deployment(deployed.sandbox, TEST_DEVICE)
    assert done.returncode == 0, done.stdout
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == [
        "seen      connected over MQTT with TLS",
        "seen      message acknowledged",
        "seen      Thing known to the stack",
        "seen      slot served by a connector",
        "seen      nothing held back",
        "seen      values in ThingWorx",
    ]


def test_the_post_deployment_test_says_what_to_check(deployed: Deployed) -> None:
    done = post_deployment(deployed.sandbox, "NobodyKnowsMe")
    assert done.returncode == 1
    assert "NOT SEEN  Thing known to the stack" in done.stdout
    assert "check: that NobodyKnowsMe exists in ThingWorx" in done.stdout


def test_a_second_plan_changes_nothing(deployed: Deployed) -> None:
    variables = deployed.sandbox.folder / "deployment" / "sandbox.tfvars.json"
    try:
        deployed.terraform.run("plan", "-no-color", "-detailed-exitcode", f"-var-file={variables}")
    except TerraformError as error:  # exit code 2: it would change something
        pytest.fail(str(error))


def test_changed_code_reaches_running_connectors_by_hand_over(deployed: Deployed) -> None:
    before = deployed.observer.owners()
    change_code(deployed.sandbox.folder / "dist" / "lambdas.zip")
    deployed.terraform.apply(deployed.sandbox.variables())

    def all_new() -> bool | None:
        owners = deployed.observer.owners()
        if len(owners) < SLOTS or any(owners[slot] == before.get(slot) for slot in owners):
            return None
        new = streams(deployed.sandbox, MARK)
        return all(environment_of(deployed.sandbox, owner) in new for owner in owners.values()) or None

    wait_for("connector of new code in each slot", all_new, 150)
    assert deployed.traffic.wait_for_arrival(deployed.observer, 30) == set()


def test_a_killed_connectors_slot_is_served_again_within_90_seconds_and_no_reading_is_lost(
    deployed: Deployed,
) -> None:
    slot, owner = min(deployed.observer.owners().items())
    kill_environment(environment_of(deployed.sandbox, owner), deployed.sandbox.folder)
    (thing,) = {record.name for record in deployed.control.things_of(slot)} & deployed.traffic.newest(
        deployed.observer
    ).keys()
    sent_before = len([reading for reading in deployed.traffic.published if reading.thing == thing])

    def served_again() -> bool | None:
        again = deployed.observer.owners().get(slot, owner) != owner
        # A value that was published after the kill.
        return (again and deployed.traffic.newest(deployed.observer)[thing] > sent_before) or None

    wait_for("new owner of the slot", served_again, 90)
    assert deployed.traffic.wait_for_arrival(deployed.observer, 60) == set()


def test_destroy_leaves_nothing(deployed: Deployed) -> None:
    deployed.terraform.destroy()
    client = deployed.sandbox.client
    assert deployed.terraform.run("state", "list") == ""
    assert client("sqs").list_queues().get("QueueUrls", []) == []
    assert client("stepfunctions").list_state_machines()["stateMachines"] == []
    assert client("lambda").list_functions()["Functions"] == []
    assert client("dynamodb").list_tables()["TableNames"] == []
    assert client("s3").list_buckets()["Buckets"] == []
    assert client("logs").describe_log_groups()["logGroups"] == []
    assert client("iot").list_topic_rules()["rules"] == []


def post_deployment(sandbox: Sandbox, thing: str) -> subprocess.CompletedProcess[str]:
    """Run the script as a person does, with a certificate of AWS IoT that may do just this."""
    iot = sandbox.client("iot")
    made = iot.create_keys_and_certificate(setAsActive=True)
    arn = "arn:aws:iot:us-east-1:000000000000"
    allowed = [
        {"Effect": "Allow", "Action": "iot:Connect", "Resource": f"{arn}:client/{thing}"},
        {"Effect": "Allow", "Action": "iot:Publish", "Resource": f"{arn}:topic/{TOPIC}"},
    ]
    document = json.dumps({"Version": "2012-10-17", "Statement": allowed})
    iot.create_policy(policyName=f"device-{thing}", policyDocument=document)
    iot.attach_policy(policyName=f"device-{thing}", target=made["certificateArn"])
    files = {
        "ca": sandbox.emulator.mqtt_ca(),
        "cert": made["certificatePem"],
        "key": made["keyPair"]["PrivateKey"],
    }
    for name, text in files.items():
        (sandbox.folder / f"device-{name}.pem").write_text(text)
    host, port = sandbox.emulator.mqtt_endpoint
    options = {
        "endpoint": host,
        "port": str(port),
        **{name: str(sandbox.folder / f"device-{name}.pem") for name in files},
        "thing": thing,
        "stack": "sandbox",
        "thingworx-url": f"{sandbox.simulator.url}/Thingworx",
        "thingworx-ca": str(sandbox.folder / "certificates" / "bundle.pem"),
    }
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.post_deployment",
            *(f"--{key}={text}" for key, text in options.items()),
        ],
        cwd=ROOT,
        env={
            **os.environ,
            **sandbox.emulator.aws_environment(),
            "THINGWORX_APP_KEY": sandbox.simulator.app_key,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def change_code(package: Path) -> None:
    """Another version of the same package: its connector says so when it starts."""
    with zipfile.ZipFile(package) as old:
        entries = {entry: old.read(entry) for entry in old.infolist()}
    with zipfile.ZipFile(package, "w") as new:
        for entry, content in entries.items():
            mark = (
                f"\nprint({MARK!r})\n".encode() if entry.filename == "lambdas/connector/handler.py" else b""
            )
            new.writestr(entry, content + mark)
