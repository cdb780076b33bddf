"""The operator's command line: `python -m ops` (docs/operations.md).

A module a command. To add one: write the module with `HELP`, `add_arguments` and `run` (see
`ops.command.Command`) and name it in `ops.__main__`.
"""
