"""What AWS IoT's broker says of a client: connected or not, and since when."""

from __future__ import annotations

from typing import TYPE_CHECKING

from botocore.exceptions import ClientError, ParamValidationError

from lambdas.connector.presence_record import Answer

if TYPE_CHECKING:
    from mypy_boto3_iot_data import IoTDataPlaneClient

__all__ = ["Connections", "NotAllowed"]

_DENIED = frozenset({"AccessDenied", "AccessDeniedException", "ForbiddenException", "UnauthorizedException"})
#: No client of this name is known, or none can have it.
_NOBODY = frozenset({"ResourceNotFoundException", "InvalidRequestException"})


class NotAllowed(Exception):  # noqa: N818 - a state of the account, not a programming error
    """The connector's role may not ask."""


class Connections:
    """Asks by `iotdata:GetConnection`.

    Args:
        client: boto3 client of the IoT data plane.
    """

    def __init__(self, client: IoTDataPlaneClient) -> None:
        self._client = client

    def ask(self, client_id: str) -> Answer:
        """State of a client; blocks.

        Raises:
            NotAllowed: permission is missing; asking again is of no use.
            ClientError: it can't be told now: throttled, or a failure of the service.
            BotoCoreError: the service can't be reached.
        """
        try:
            found = self._client.get_connection(clientId=client_id)
        except ParamValidationError:
            return Answer(connected=False, since=None)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code in _DENIED:
                raise NotAllowed(str(error)) from error
            if code in _NOBODY:
                return Answer(connected=False, since=None)
            raise
        if found.get("connected"):
            return Answer(connected=True, since=found.get("connectedSince"))
        return Answer(connected=False, since=found.get("disconnectedSince"))
