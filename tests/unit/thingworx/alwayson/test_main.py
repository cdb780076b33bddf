"""The wire trace: a line of hex in, a line of JSON out."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from lambdas.thingworx.alwayson.__main__ import main
from tests.unit.thingworx.alwayson.corpus import VECTORS

if TYPE_CHECKING:
    from collections.abc import Sequence


def feed(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))


@pytest.mark.parametrize("kind", ["message", "value", "infotable"])
def test_every_vector_is_printed_as_its_json(
    kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    vectors = [vector for vector in VECTORS if vector.kind == kind]
    feed(monkeypatch, "\n".join(vector.data.hex() for vector in vectors).encode() + b"\n\n")
    assert main(["decode", "--kind", kind, "-"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [json.loads(line) for line in printed] == [vector.decode for vector in vectors]


def test_command_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lambdas.thingworx.alwayson", "decode", "01400000000200000000000003090000FF"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert json.loads(done.stdout)["status"] == "0x40 SUCCESS(200)"


def test_bad_bytes_are_told_with_their_offset_and_the_other_lines_are_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    feed(monkeypatch, b"00024869\n1300\n0201\n")
    assert main(["decode", "--kind", "value"]) == 1
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 2
    assert printed.err == "line 2: offset 0, value: no base type 19\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["decode", ""], "offset 0, version"),
        (["decode", "0140zz"], "offset 2, hex"),
        (["decode", "01400"], "offset 2, hex"),
        (["decode", "--kind", "infotable", "0105"], "offset 1, table.fields[0].name"),
    ],
)
def test_what_cannot_be_decoded_ends_with_exit_code_1(
    arguments: Sequence[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert told in printed.err
