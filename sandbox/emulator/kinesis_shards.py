"""Kinesis resharding: a shard that was split or merged is closed, not gone.

AWS documents that a parent shard takes no more records and stays readable until its records expire,
that its children name it as parent, and that only open shards count. Replaces kinesis._split_shard,
_merge_shards, _update_shard_count, _route_to_shard, _shard_out and _describe_stream_summary, and, since it
copied every record of the stream at every write, _expire_records; uses _resolve_stream,
_max_shard_index, _build_shards, _next_sequence_number.
"""
# ruff: noqa: SLF001 - private names of the emulator are what an overlay is about

from __future__ import annotations

import json
import time
from typing import Any

from ministack.core.responses import error_response_json, json_response
from ministack.services import kinesis

from . import patching

Shard = dict[str, Any]


def install() -> None:
    """Put this part of the overlay on."""
    patching.require(kinesis, "_resolve_stream", "_max_shard_index", "_build_shards", "_next_sequence_number")
    patching.replace(kinesis, "_split_shard", _reshard_for)
    patching.replace(kinesis, "_merge_shards", _reshard_for)
    patching.replace(kinesis, "_update_shard_count", lambda _: update_shard_count)
    patching.replace(kinesis, "_route_to_shard", _route_for)
    patching.replace(kinesis, "_shard_out", _shard_out_for)
    patching.replace(kinesis, "_describe_stream_summary", _summary_for)
    patching.replace(kinesis, "_expire_records", lambda _: expire_records)


def open_shards(stream: dict[str, Any]) -> dict[str, Shard]:
    """The shards that take records."""
    return {name: shard for name, shard in stream["shards"].items() if not shard.get("closed_at")}


def expire_records(stream: dict[str, Any]) -> None:
    """Drop the records beyond the retention period; they are in order of arrival."""
    oldest = time.time() - stream["RetentionPeriodHours"] * 3600
    for shard in stream["shards"].values():
        expired = 0
        for record in shard["records"]:
            if record["ApproximateArrivalTimestamp"] >= oldest:
                break
            expired += 1
        if expired:
            shard["records"] = shard["records"][expired:]


def _reshard_for(original: Any) -> Any:
    def reshard(data: dict[str, Any]) -> Any:
        _, stream = kinesis._resolve_stream(data)
        if stream is None:
            return original(data)
        everything, taking = dict(stream["shards"]), open_shards(stream)
        # The original knows open shards only, and must not give a closed one's name again.
        stream["shards"] = dict(taking)
        first = max(int(name.rpartition("-")[2]) for name in everything) + 1
        try:
            answer = original(data)
        finally:
            remaining = stream["shards"]
            parents = [everything[name] for name in taking if name not in remaining]
            children = {name: shard for name, shard in remaining.items() if name not in everything}
            renamed = {
                f"shardId-{first + index:012d}": child for index, child in enumerate(children.values())
            }
            _close(parents)
            stream["shards"] = {**everything, **renamed}
        return answer

    return reshard


def _close(shards: list[Shard]) -> None:
    for shard in shards:
        shard["closed_at"] = kinesis._next_sequence_number()


def update_shard_count(data: dict[str, Any]) -> Any:
    """UpdateShardCount with UNIFORM_SCALING: at most double, at least half."""
    name, stream = kinesis._resolve_stream(data)
    if stream is None:
        return error_response_json("ResourceNotFoundException", f"Stream {name} not found", 400)
    target, before = int(data.get("TargetShardCount", 0)), open_shards(stream)
    if not (len(before) + 1) // 2 <= target <= 2 * len(before):
        return error_response_json(
            "InvalidArgumentException",
            "TargetShardCount must be between half and double of the open shards",
            400,
        )
    if target != len(before):
        children = kinesis._build_shards(target, kinesis._max_shard_index(stream) + 1)
        for child in children.values():
            parents = [name for name, shard in before.items() if _overlap(child, shard)]
            child["parent_shard_id"] = parents[0]
            child["adjacent_parent_shard_id"] = parents[1] if len(parents) > 1 else None
        _close(list(before.values()))
        stream["shards"].update(children)
    return json_response(
        {
            "StreamName": stream["StreamName"],
            "CurrentShardCount": len(before),
            "TargetShardCount": target,
            "StreamARN": stream["StreamARN"],
        }
    )


def _overlap(one: Shard, other: Shard) -> bool:
    return int(one["starting_hash_key"]) <= int(other["ending_hash_key"]) and int(
        other["starting_hash_key"]
    ) <= int(one["ending_hash_key"])


def _route_for(original: Any) -> Any:
    def route(hash_key: int, stream: dict[str, Any]) -> str:
        name: str = original(hash_key, {**stream, "shards": open_shards(stream)})
        return name

    return route


def _shard_out_for(original: Any) -> Any:
    def shard_out(name: str, shard: Shard) -> dict[str, Any]:
        answer: dict[str, Any] = original(name, shard)
        if closed := shard.get("closed_at"):
            answer["SequenceNumberRange"]["EndingSequenceNumber"] = closed
        return answer

    return shard_out


def _summary_for(original: Any) -> Any:
    def summary(data: dict[str, Any]) -> Any:
        status, headers, body = original(data)
        _, stream = kinesis._resolve_stream(data)
        if stream is not None and status == 200:
            document = json.loads(body)
            document["StreamDescriptionSummary"]["OpenShardCount"] = len(open_shards(stream))
            return json_response(document)
        return status, headers, body

    return summary
