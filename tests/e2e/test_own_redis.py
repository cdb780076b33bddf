"""What two inputs make: Redis, its VPC and the way out; and that `destroy` takes all of it away."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import boto3
import pytest

from sandbox.emulator_process import EmulatorProcess
from sandbox.stack import ARCHITECTURE
from sandbox.terraform import Terraform
from tools.build import build_code, build_layer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(400)

#: Attributes that the emulator doesn't give back as they were set (docs/reference/emulator-differences.md).
KNOWN_DRIFT = {
    "aws_vpc_endpoint": {"policy", "private_dns_enabled", "security_group_ids"},
}


class Applied(NamedTuple):
    """The module in an AWS of its own."""

    folder: Path
    aws: EmulatorProcess
    terraform: Terraform

    def client(self, service: str) -> Any:
        """A boto3 client of this AWS."""
        make: Any = boto3.client  # the stubs know names of services only as literals
        return make(
            service,
            endpoint_url=self.aws.endpoint_url,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Applied]:
    folder = tmp_path_factory.mktemp("own-redis")
    build_code(folder / "dist" / "lambdas.zip")
    build_layer(
        folder / "dist" / f"layer-{ARCHITECTURE}.zip",
        architecture=ARCHITECTURE,
        python=f"{sys.version_info.major}.{sys.version_info.minor}",
    )
    with EmulatorProcess(
        folder / "aws", redis_endpoint=("127.0.0.9", 6379), extra_env={"AUTH": "true"}
    ) as aws:
        terraform = Terraform(folder / "deployment", aws.aws_environment())
        deployed = Applied(folder, aws, terraform)
        secret = deployed.client("secretsmanager").create_secret(Name="app-key", SecretString="k")["ARN"]
        terraform.prepare()
        terraform.apply(
            {
                "thingworx_url": "https://thingworx.example.com/Thingworx",
                "thingworx_app_key_secret_arn": secret,
                "package_dir": str(folder / "dist"),
                "architecture": ARCHITECTURE,
            }
        )
        yield deployed


def test_redis_asks_for_the_password_that_the_functions_read(applied: Applied) -> None:
    outputs = applied.terraform.outputs()
    secret = applied.client("secretsmanager").get_secret_value(SecretId=outputs["redis_auth_secret_arn"])
    assert len(secret["SecretString"]) == 64
    (group,) = applied.client("elasticache").describe_replication_groups()["ReplicationGroups"]
    assert group["AuthTokenEnabled"]
    assert group["TransitEncryptionEnabled"]
    assert outputs["redis_url"] == "rediss://127.0.0.9:6379/0"
    router = applied.client("lambda").get_function_configuration(FunctionName="thingworx-connector-router")
    variables = router["Environment"]["Variables"]
    assert variables["REDIS_URL"] == outputs["redis_url"]
    assert variables["REDIS_AUTH_SECRET_ARN"] == outputs["redis_auth_secret_arn"]
    assert secret["SecretString"] not in json.dumps(variables)


def test_a_second_plan_shows_nothing_but_known_gaps_of_the_emulator(applied: Applied) -> None:
    variables = applied.folder / "deployment" / "sandbox.tfvars.json"
    plan = applied.folder / "second.plan"
    applied.terraform.run("plan", "-no-color", f"-out={plan}", f"-var-file={variables}")
    shown = json.loads(applied.terraform.run("show", "-json", str(plan)))
    unexpected = {}
    for entry in shown["resource_changes"]:
        actions, before, after = (entry["change"][name] for name in ("actions", "before", "after"))
        if entry["mode"] != "managed" or actions == ["no-op"]:
            continue
        known = KNOWN_DRIFT.get(entry["type"], set())
        changed = {name for name in after or {} if (before or {}).get(name) != after[name]}
        if actions != ["update"] or not changed <= known:
            unexpected[entry["address"]] = (actions, changed)
    assert unexpected == {}


def test_a_new_password_is_one_command(applied: Applied) -> None:
    arn = applied.terraform.outputs()["redis_auth_secret_arn"]
    secrets = applied.client("secretsmanager")
    before = secrets.get_secret_value(SecretId=arn)["SecretString"]
    applied.terraform.run(
        "apply",
        "-auto-approve",
        "-no-color",
        "-replace=aws_secretsmanager_secret_version.redis[0]",
        f"-var-file={applied.folder / 'deployment' / 'sandbox.tfvars.json'}",
    )
    after = secrets.get_secret_value(SecretId=arn)["SecretString"]
    assert len(after) == 64
    assert after != before
    group = json.loads(applied.terraform.run("show", "-json"))["values"]["root_module"]["resources"]
    (set_to,) = [
        it["values"]["auth_token"] for it in group if it["type"] == "aws_elasticache_replication_group"
    ]
    assert set_to == after


def test_destroy_takes_all_of_it_away(applied: Applied) -> None:
    applied.terraform.destroy()
    assert applied.terraform.run("state", "list") == ""
    assert applied.client("elasticache").describe_replication_groups()["ReplicationGroups"] == []
    vpcs = applied.client("ec2").describe_vpcs()["Vpcs"]
    assert [vpc["VpcId"] for vpc in vpcs if not vpc["IsDefault"]] == []
    assert applied.client("sqs").list_queues().get("QueueUrls", []) == []
