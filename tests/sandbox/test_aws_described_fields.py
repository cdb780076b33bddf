"""What was set is what is described: the fields that Terraform compares."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING

from tests.sandbox.aws import ROLE, unique

if TYPE_CHECKING:
    from tests.sandbox.aws import Aws


def query_protocol(aws: Aws, **parameters: str) -> str:
    """The answer of CloudWatch's Query protocol, which the Terraform provider speaks."""
    signature = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/monitoring/aws4_request"
    request = urllib.request.Request(  # noqa: S310 - the emulator's own http address
        aws.emulator.endpoint_url,
        data=urllib.parse.urlencode({"Version": "2010-08-01", **parameters}).encode(),
        headers={"Authorization": signature},
    )
    with urllib.request.urlopen(request) as answer:  # noqa: S310 - the same
        return str(answer.read().decode())


def test_an_alarm_is_described_with_every_field_it_was_given(aws: Aws) -> None:
    alarm = {
        "AlarmName": unique("alarm"),
        "AlarmDescription": "lag <high> & rising",
        "ActionsEnabled": True,
        "AlarmActions": ["arn:aws:sns:us-east-1:000000000000:alarms"],
        "Namespace": "stack",
        "MetricName": "lag",
        "Dimensions": [{"Name": "stack", "Value": "one"}],
        "Statistic": "Maximum",
        "Period": 60,
        "EvaluationPeriods": 3,
        "DatapointsToAlarm": 2,
        "Threshold": 1.5,
        "ComparisonOperator": "GreaterThanThreshold",
        "TreatMissingData": "breaching",
    }
    aws("cloudwatch").put_metric_alarm(**alarm)
    (found,) = aws("cloudwatch").describe_alarms(AlarmNames=[alarm["AlarmName"]])["MetricAlarms"]
    assert {name: found.get(name) for name in alarm} == alarm
    answer = query_protocol(aws, Action="DescribeAlarms", **{"AlarmNames.member.1": str(alarm["AlarmName"])})
    for element in (
        "<AlarmDescription>lag &lt;high&gt; &amp; rising</AlarmDescription>",
        "<AlarmActions><member>arn:aws:sns:us-east-1:000000000000:alarms</member></AlarmActions>",
        "<Dimensions><member><Name>stack</Name><Value>one</Value></member></Dimensions>",
        "<ActionsEnabled>true</ActionsEnabled>",
        "<Period>60</Period>",
        "<TreatMissingData>breaching</TreatMissingData>",
    ):
        assert element in answer


def test_an_alarm_on_metric_math_has_no_period_of_its_own(aws: Aws) -> None:
    name = unique("alarm")
    metric = {"Metric": {"Namespace": "stack", "MetricName": "lag"}, "Period": 60, "Stat": "Maximum"}
    aws("cloudwatch").put_metric_alarm(
        AlarmName=name,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanThreshold",
        Metrics=[
            {"Id": "e1", "Expression": "m1 * 2", "ReturnData": True},
            {"Id": "m1", "MetricStat": metric, "ReturnData": False},
        ],
    )
    (found,) = aws("cloudwatch").describe_alarms(AlarmNames=[name])["MetricAlarms"]
    assert not {"Period", "Statistic", "MetricName"} & set(found)
    assert [query["Id"] for query in found["Metrics"]] == ["e1", "m1"]


def test_a_stream_has_the_tags_it_was_created_with(aws: Aws) -> None:
    name = unique("stream")
    aws("kinesis").create_stream(StreamName=name, ShardCount=1, Tags={"stack": "one"})
    assert aws("kinesis").list_tags_for_stream(StreamName=name)["Tags"] == [{"Key": "stack", "Value": "one"}]


def test_a_state_machine_tells_its_tracing(aws: Aws) -> None:
    definition = json.dumps({"StartAt": "A", "States": {"A": {"Type": "Pass", "End": True}}})
    client = aws("stepfunctions")
    machine = {"name": unique("machine"), "definition": definition, "roleArn": ROLE}
    arn = client.create_state_machine(**machine)["stateMachineArn"]
    assert client.describe_state_machine(stateMachineArn=arn)["tracingConfiguration"] == {"enabled": False}
    client.update_state_machine(stateMachineArn=arn, tracingConfiguration={"enabled": True})
    client.update_state_machine(stateMachineArn=arn, definition=definition)
    assert client.describe_state_machine(stateMachineArn=arn)["tracingConfiguration"] == {"enabled": True}


def test_a_replication_group_tells_its_key_and_a_parameter_group_what_the_user_set(aws: Aws) -> None:
    client = aws("elasticache")
    name = unique("registry")
    client.create_cache_parameter_group(
        CacheParameterGroupName=name, CacheParameterGroupFamily="valkey8", Description="any"
    )
    client.modify_cache_parameter_group(
        CacheParameterGroupName=name,
        ParameterNameValues=[{"ParameterName": "maxmemory-policy", "ParameterValue": "noeviction"}],
    )
    found = client.describe_cache_parameters(CacheParameterGroupName=name, Source="user")["Parameters"]
    assert [(entry["ParameterName"], entry["ParameterValue"]) for entry in found] == [
        ("maxmemory-policy", "noeviction")
    ]
    client.create_replication_group(
        ReplicationGroupId=name,
        ReplicationGroupDescription="any",
        Engine="valkey",
        AtRestEncryptionEnabled=True,
        KmsKeyId="arn:aws:kms:us-east-1:000000000000:key/any",
    )
    (group,) = client.describe_replication_groups(ReplicationGroupId=name)["ReplicationGroups"]
    assert group["KmsKeyId"] == "arn:aws:kms:us-east-1:000000000000:key/any"


def test_a_rule_to_a_prefix_list_is_described_with_it(aws: Aws) -> None:
    ec2 = aws("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/24")["Vpc"]["VpcId"]
    group = ec2.create_security_group(GroupName=unique("group"), Description="any", VpcId=vpc)["GroupId"]
    lists = ec2.describe_prefix_lists()["PrefixLists"]
    wanted = {"PrefixListId": lists[0]["PrefixListId"], "Description": "a service"}
    made = ec2.authorize_security_group_egress(
        GroupId=group,
        IpPermissions=[{"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "PrefixListIds": [wanted]}],
    )["SecurityGroupRules"]
    found = ec2.describe_security_group_rules(
        SecurityGroupRuleIds=[rule["SecurityGroupRuleId"] for rule in made]
    )["SecurityGroupRules"]
    assert [(rule["PrefixListId"], rule["Description"]) for rule in found] == [tuple(wanted.values())]
