"""Starting and stopping: nothing is left behind, two run side by side, a misfit refuses to start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.emulator_process import ROOT, EmulatorError, EmulatorProcess, ensure_environment
from tests.sandbox.aws import Aws, eventually


def group_members(group: int) -> list[int]:
    """Processes of a process group that are no zombies."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, _, its_group = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
            except OSError:  # it ended meanwhile
                continue
            if int(its_group) == group and state != "Z":
                found.append(int(entry.name))
    return found


BUSY = "import time\ndef handle(event, context):\n    print('busy')\n    while True: time.sleep(1)\n"


def test_stopping_ends_busy_functions_and_keeps_every_file_in_the_state_folder(tmp_path: Path) -> None:
    with EmulatorProcess(tmp_path / "one", extra_env={"LOG_LEVEL": "INFO"}) as emulator:
        group = emulator.pid
        aws = Aws(emulator)
        name = aws.function(BUSY)
        aws.invoke(name, InvocationType="Event")
        eventually(lambda: "busy" in aws.log_lines(name))
        assert len(group_members(group)) == 2
        assert list((tmp_path / "one" / "tmp").rglob("module.py"))
    assert eventually(lambda: group_members(group) == [])


def test_functions_end_with_a_launcher_that_is_killed(tmp_path: Path) -> None:
    program = (
        "import pathlib, sys, time\n"
        "from sandbox.emulator_process import EmulatorProcess\n"
        "emulator = EmulatorProcess(pathlib.Path(sys.argv[1]))\n"
        "emulator.start(); emulator.wait_ready()\n"
        "print(emulator.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as launcher:
        assert launcher.stdout is not None
        group = int(launcher.stdout.readline())
        assert group_members(group)
        launcher.kill()
    assert eventually(lambda: group_members(group) == [])


def test_two_run_side_by_side(emulator: EmulatorProcess, aws: Aws, tmp_path: Path) -> None:
    url, _ = aws.queue()
    with EmulatorProcess(tmp_path) as other:
        assert other.endpoint_url != emulator.endpoint_url
        assert other.mqtt_endpoint != emulator.mqtt_endpoint
        assert not Aws(other)("sqs").list_queues().get("QueueUrls")
    assert url in aws("sqs").list_queues()["QueueUrls"]


def test_a_replication_groups_endpoint_is_the_redis_that_was_given(tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.write_text("")
    with EmulatorProcess(
        tmp_path / "state", redis_endpoint=("localhost", 16379), ca_bundle=bundle
    ) as emulator:
        aws = Aws(emulator)
        aws("elasticache").create_replication_group(
            ReplicationGroupId="registry", ReplicationGroupDescription="any", Engine="valkey"
        )
        (group,) = aws("elasticache").describe_replication_groups()["ReplicationGroups"]
        endpoint = group["NodeGroups"][0]["PrimaryEndpoint"]
        assert (endpoint["Address"], endpoint["Port"]) == ("localhost", 16379)
        name = aws.function("import os\ndef handle(event, context): return os.environ['SSL_CERT_FILE']\n")
        assert aws.invoke(name)["Payload"] == str(bundle)


def test_a_failed_start_shows_the_end_of_the_log(tmp_path: Path) -> None:
    with pytest.raises(EmulatorError, match="could not convert string to float: 'soon'"):
        EmulatorProcess(tmp_path, extra_env={"SANDBOX_KINESIS_RETRY_SECONDS": "soon"}).__enter__()


@pytest.mark.parametrize(
    "misfit",
    [
        "patching.PINNED_VERSION = '0.0.1'",
        "import ministack.services.stepfunctions as s; del s._invoke_with_callback",
    ],
)
def test_another_release_or_a_missing_name_is_refused(misfit: str, tmp_path: Path) -> None:
    program = (
        "import importlib.util, sys\n"
        "spec = importlib.util.spec_from_file_location('start', sys.argv[1])\n"
        "start = importlib.util.module_from_spec(spec); spec.loader.exec_module(start)\n"
        "start.load_package()\n"
        "from emulator import overlay, patching\n"
        f"{misfit}\n"
        "overlay.install()\n"
    )
    start = ROOT / "sandbox" / "emulator" / "__main__.py"
    environment = {**os.environ, "GATEWAY_PORT": "1", "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [str(ensure_environment()), "-c", program, str(start)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "OverlayError" in done.stderr
