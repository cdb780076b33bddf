"""`python -m sandbox`: the demo, or a sandbox that stays up for the AWS CLI and for you."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

__all__ = ["main"]

_FOLDER = Path(__file__).resolve().parent.parent / ".sandbox"


def main(arguments: list[str] | None = None) -> int:
    """Command line; 0 when all went well."""
    parser = argparse.ArgumentParser(prog="python -m sandbox", description=__doc__)
    parser.add_argument("--folder", type=Path, default=_FOLDER, help="where all its files go")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("demo", help="deploy, publish, hand over, check, take down")
    commands.add_parser("up", help="deploy and stay up until Ctrl-C")
    thing = commands.add_parser("add-thing", help="add a tagged Thing to the running sandbox's ThingWorx")
    thing.add_argument("name")
    publish = commands.add_parser("publish", help="publish one MQTT message to the running sandbox")
    publish.add_argument("name", help="client id: the Thing's name")
    publish.add_argument("payload", help="for example '{\"temp\": 10}'")
    publish.add_argument("--topic", default="/sample/topic")
    values = commands.add_parser("values", help="show a Thing's values in the running sandbox's ThingWorx")
    values.add_argument("name")
    options = parser.parse_args(arguments)
    if options.command == "demo":
        from sandbox.demo import run_demo  # noqa: PLC0415 - each command loads what it needs

        return 0 if run_demo(options.folder / "demo") else 1
    from sandbox import session  # noqa: PLC0415 - same

    if options.command == "up":
        session.stay_up(options.folder / "main")
    elif options.command == "add-thing":
        session.add_thing(options.folder / "main", options.name)
    elif options.command == "publish":
        session.publish(options.folder / "main", options.name, options.topic, options.payload)
    else:
        session.show_values(options.folder / "main", options.name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
