"""Lambda: what a function sees, what its caller is told, and what its log group shows."""

from __future__ import annotations

import base64
import json
import time
from typing import TYPE_CHECKING

import pytest

from tests.sandbox.aws import Aws, eventually, unique, zipped

if TYPE_CHECKING:
    from pathlib import Path


def test_an_exceptions_class_message_and_stack_trace_reach_the_caller(aws: Aws) -> None:
    name = aws.function(
        "class Refused(Exception): pass\ndef handle(event, context):\n    raise Refused('no room')\n"
    )
    answer = aws.invoke(name)
    assert answer["FunctionError"] == "Unhandled"
    assert answer["Payload"]["errorType"] == "Refused"
    assert answer["Payload"]["errorMessage"] == "no room"
    assert "raise Refused" in answer["Payload"]["stackTrace"][0]


def test_a_function_error_leaves_the_environment_warm(aws: Aws) -> None:
    name = aws.function(
        "import os\ndef handle(event, context):\n    if event: raise ValueError\n    return os.getpid()\n"
    )
    first = aws.invoke(name)["Payload"]
    assert aws.invoke(name, event=1)["FunctionError"] == "Unhandled"
    assert aws.invoke(name)["Payload"] == first


@pytest.mark.parametrize(
    ("source", "error_type"),
    [
        ("import module_that_is_missing\n", "Runtime.ImportModuleError"),
        ("def other(event, context): pass\n", "Runtime.HandlerNotFound"),
        ("def handle(event, context) return 1\n", "Runtime.UserCodeSyntaxError"),
        ("raise KeyError('setting')\n", "KeyError"),
        ("def handle(event, context): return {1, 2}\n", "Runtime.MarshalError"),
        ("import os\ndef handle(event, context): os._exit(3)\n", "Runtime.ExitError"),
    ],
)
def test_initial_and_fatal_errors_have_the_runtimes_names(aws: Aws, source: str, error_type: str) -> None:
    answer = aws.invoke(aws.function(source))
    assert answer["FunctionError"] == "Unhandled"
    assert answer["Payload"]["errorType"] == error_type


def test_an_invocation_beyond_its_timeout_is_killed(aws: Aws) -> None:
    name = aws.function("import time\ndef handle(event, context): time.sleep(30)\n", Timeout=1)
    payload = aws.invoke(name)["Payload"]
    assert payload["errorType"] == "Sandbox.Timedout"
    assert payload["errorMessage"].endswith("Task timed out after 1.00 seconds")


def test_any_runtime_label_and_architecture_run_on_the_host(aws: Aws) -> None:
    source = "def handle(event, context): return 'ran'\n"
    for label in ("python3.11", "python3.13"):
        assert aws.invoke(aws.function(source, Runtime=label, Architectures=["arm64"]))["Payload"] == "ran"


def test_log_lines_appear_in_the_log_group_while_the_function_runs(aws: Aws, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    name = aws.function(
        "import pathlib, time\n"
        "def handle(event, context):\n"
        "    print('working')\n"
        "    while not pathlib.Path(event).exists(): time.sleep(0.02)\n"
    )
    aws("lambda").invoke(FunctionName=name, InvocationType="Event", Payload=json.dumps(str(gate)))
    lines = eventually(lambda: [line for line in aws.log_lines(name) if line == "working"])
    assert lines == ["working"]
    assert not any(line.startswith("REPORT") for line in aws.log_lines(name))
    gate.touch()
    eventually(lambda: any(line.startswith("REPORT") for line in aws.log_lines(name)))


def test_printed_json_lands_in_the_log_one_event_a_line_and_never_in_the_answer(aws: Aws) -> None:
    name = aws.function(
        "import json, os, sys\n"
        "def handle(event, context):\n"
        "    print(json.dumps({'result': 'not the answer'}))\n"
        "    print(json.dumps({'status': 'ok', 'result': 1}), file=sys.stderr)\n"
        "    os.system('echo from a child process')\n"
        "    sys.stdout.write('two\\nlines')\n"
        "    return 'the answer'\n"
    )
    assert aws.invoke(name)["Payload"] == "the answer"
    lines = aws.log_lines(name)
    assert lines[0].startswith("START RequestId: ")
    assert lines[1:-2] == [
        '{"result": "not the answer"}',
        '{"status": "ok", "result": 1}',
        "from a child process",
        "two",
        "lines",
    ]
    assert lines[-2].startswith("END RequestId: ")


def test_metrics_embedded_in_a_log_line_become_metrics(aws: Aws) -> None:
    namespace = unique("metrics")
    line = {
        "_aws": {
            "Timestamp": int(time.time() * 1000),
            "CloudWatchMetrics": [
                {
                    "Namespace": namespace,
                    "Dimensions": [["stack"]],
                    "Metrics": [{"Name": "readings", "Unit": "Count"}],
                }
            ],
        },
        "stack": "one",
        "readings": [3, 4],
    }
    aws.invoke(
        aws.function("import json\ndef handle(event, context): print(json.dumps(event))\n"), event=line
    )
    now = time.time()
    points = aws("cloudwatch").get_metric_statistics(
        Namespace=namespace,
        MetricName="readings",
        Dimensions=[{"Name": "stack", "Value": "one"}],
        StartTime=now - 600,
        EndTime=now + 600,
        Period=3600,
        Statistics=["Sum", "SampleCount"],
    )["Datapoints"]
    assert sum(point["Sum"] for point in points) == 7
    assert sum(point["SampleCount"] for point in points) == 2


def test_the_tail_of_the_log_comes_with_the_answer(aws: Aws) -> None:
    name = aws.function("def handle(event, context): print('seen')\n")
    tail = base64.b64decode(aws.invoke(name, LogType="Tail")["LogResult"]).decode()
    assert "\nseen\n" in tail


def test_a_json_log_format_gives_json_lines_and_the_system_level_silences_the_platform(aws: Aws) -> None:
    name = aws.function(
        "import logging\ndef handle(event, context): logging.getLogger('mine').error('bad %s', 'day')\n",
        LoggingConfig={"LogFormat": "JSON", "ApplicationLogLevel": "INFO", "SystemLogLevel": "WARN"},
    )
    aws.invoke(name)
    (line,) = aws.log_lines(name)
    entry = json.loads(line)
    assert (entry["level"], entry["message"], entry["logger"]) == ("ERROR", "bad day", "mine")


def test_the_documented_environment_variables_are_set(aws: Aws) -> None:
    name = aws.function(
        "import os\ndef handle(event, context): return [dict(os.environ), context.log_stream_name]\n",
        environment={"MINE": "1"},
    )
    environment, stream = aws.invoke(name)["Payload"]
    expected = {
        "AWS_EXECUTION_ENV": "AWS_Lambda_python3.13",
        "AWS_LAMBDA_FUNCTION_NAME": name,
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{name}",
        "AWS_LAMBDA_LOG_STREAM_NAME": stream,
        "AWS_REGION": "us-east-1",
        "MINE": "1",
        "_HANDLER": "module.handle",
    }
    assert {key: environment.get(key) for key in expected} == expected
    assert not [key for key in environment if key.startswith(("SANDBOX_", "MINISTACK", "IOT_MTLS"))]
    streams = aws("logs").describe_log_streams(logGroupName=f"/aws/lambda/{name}")["logStreams"]
    assert [found["logStreamName"] for found in streams] == [stream]


def test_a_function_sees_its_package_its_layers_and_the_sdk_only(aws: Aws) -> None:
    layer = aws("lambda").publish_layer_version(
        LayerName=unique("layer"), Content={"ZipFile": zipped({"python/shared_thing.py": "X = 42\n"})}
    )
    name = aws.function(
        "import importlib.util, shared_thing, boto3\n"
        "def handle(event, context):\n"
        "    names = ['ministack', 'hypercorn', 'yaml', 'emulator', 'lambda_bootstrap', 'pip', 'pytest']\n"
        "    return shared_thing.X, [name for name in names if importlib.util.find_spec(name)]\n",
        Layers=[layer["LayerVersionArn"]],
    )
    assert aws.invoke(name)["Payload"] == [42, []]


def test_between_invocations_an_environment_is_frozen(aws: Aws) -> None:
    name = aws.function(
        "import threading, time\n"
        "ticks = []\n"
        "def tick():\n"
        "    while True: ticks.append(1); time.sleep(0.01)\n"
        "def handle(event, context):\n"
        "    if event: return len(ticks)\n"
        "    threading.Thread(target=tick, daemon=True).start()\n"
    )
    aws.invoke(name)
    other = aws.function("import time\ndef handle(event, context): time.sleep(0.5)\n")
    aws.invoke(other)
    assert aws.invoke(name, event=1)["Payload"] < 25


def test_concurrent_invocations_have_environments_of_their_own(aws: Aws, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    name = aws.function(
        "import os, pathlib, time\n"
        "def handle(event, context):\n"
        "    print('pid', os.getpid())\n"
        "    while not pathlib.Path(event).exists(): time.sleep(0.02)\n"
    )
    for _ in range(3):
        aws("lambda").invoke(FunctionName=name, InvocationType="Event", Payload=json.dumps(str(gate)))
    eventually(lambda: len({line for line in aws.log_lines(name) if line.startswith("pid")}) == 3)
    gate.touch()


def test_an_invocation_that_runs_finishes_on_the_old_code(aws: Aws, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    source = (
        "import pathlib, time\n"
        "def handle(event, context):\n"
        "    print('began')\n"
        "    while not pathlib.Path(event).exists(): time.sleep(0.02)\n"
        "    print('finished on version', {version})\n"
    )
    name = aws.function(source.format(version=1))
    aws("lambda").invoke(FunctionName=name, InvocationType="Event", Payload=json.dumps(str(gate)))
    eventually(lambda: "began" in aws.log_lines(name))
    aws("lambda").update_function_code(
        FunctionName=name, ZipFile=zipped({"module.py": source.format(version=2)})
    )
    gate.touch()
    aws.invoke(name, event=str(gate))
    eventually(lambda: {"finished on version 1", "finished on version 2"} <= set(aws.log_lines(name)))


@pytest.mark.parametrize(("retries", "attempts"), [(0, 1), (2, 3)])
def test_an_asynchronous_event_is_retried_as_its_config_says(aws: Aws, retries: int, attempts: int) -> None:
    queue = aws("sqs").create_queue(QueueName=unique("failed"))["QueueUrl"]
    arn = aws("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"][
        "QueueArn"
    ]
    name = aws.function("def handle(event, context): print('attempt'); raise ValueError\n")
    aws("lambda").put_function_event_invoke_config(
        FunctionName=name,
        MaximumRetryAttempts=retries,
        MaximumEventAgeInSeconds=60,
        DestinationConfig={"OnFailure": {"Destination": arn}},
    )
    assert aws.invoke(name, InvocationType="Event")["StatusCode"] == 202
    eventually(lambda: aws("sqs").receive_message(QueueUrl=queue, WaitTimeSeconds=1).get("Messages"))
    assert aws.log_lines(name).count("attempt") == attempts


def test_a_throttled_asynchronous_event_waits_and_runs(aws: Aws, tmp_path: Path) -> None:
    name = aws.function("def handle(event, context): print('ran')\n")
    aws("lambda").put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    aws("lambda").put_function_event_invoke_config(
        FunctionName=name, MaximumRetryAttempts=0, MaximumEventAgeInSeconds=60
    )
    aws.invoke(name, InvocationType="Event")
    with pytest.raises(aws("lambda").exceptions.TooManyRequestsException):
        aws.invoke(name)
    aws("lambda").delete_function_concurrency(FunctionName=name)
    eventually(lambda: "ran" in aws.log_lines(name))
