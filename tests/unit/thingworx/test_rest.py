"""How calls go out, what each answer means, and that the application key stays secret."""

from __future__ import annotations

import contextlib
import json
import re
import ssl
import threading
import traceback
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from botocore.exceptions import ClientError, EndpointConnectionError

from lambdas.shared.errors import ThingworxCallFailed, ThingworxError, ThingworxRefused, ThingworxUnavailable
from lambdas.shared.secrets import Secret
from lambdas.thingworx.rest import RestClient
from tests.unit.thingworx.answering import Answer, Received, answering

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

KEY = "3f9a-very-secret-application-key"
ARN = "arn:aws:secretsmanager:us-east-1:1:secret:key"
TABLE = {"dataShape": {"fieldDefinitions": {"result": {"name": "result", "baseType": "STRING"}}}, "rows": [{"result": "x"}]}  # fmt: skip  # noqa: E501 - an answer as it is


class FakeSecrets:
    """Secrets Manager with one secret, whose value changes at each read but the last."""

    def __init__(self, *values: str | Exception) -> None:
        self.values = list(values)
        self.reads = 0

    def get_secret_value(self, **_: str) -> dict[str, str]:
        """As boto3's."""
        self.reads += 1
        value = self.values.pop(0) if len(self.values) > 1 else self.values[0]
        if isinstance(value, Exception):
            raise value
        return {"SecretString": value} if value else {}


@contextlib.contextmanager
def client_of(
    url: str, *values: str | Exception, timeouts: tuple[float, float] = (5, 5)
) -> Iterator[RestClient]:
    client = RestClient(url, Secret(FakeSecrets(*(values or (KEY,))), ARN), timeouts=timeouts)  # type: ignore[arg-type]
    try:
        yield client
    finally:
        client.close()


def call(client: RestClient) -> Any:
    return client.service("Things", "Pump 1/a", "Update", {"values": 1})


def failure(answer: Answer | Callable[[Received], Answer]) -> ThingworxError:
    """The error that this answer becomes, with the key nowhere in it."""
    respond = answer if callable(answer) else lambda _: answer
    with answering(respond) as platform, client_of(platform.url) as client:
        with pytest.raises(ThingworxError) as caught:
            call(client)
        check_secret(caught.value)
        return caught.value


def check_secret(error: BaseException) -> None:
    assert KEY not in "".join(traceback.format_exception(error))
    assert KEY not in repr(error)


def test_a_call_is_one_post_with_json_and_the_key_in_a_header_alone() -> None:
    with (
        answering(lambda _: Answer(200, json.dumps(TABLE).encode())) as platform,
        client_of(platform.url) as client,
    ):
        table = call(client)
        assert table.rows == [{"result": "x"}]
        assert table.fields == {"result": "STRING"}
        (request,) = platform.received
        assert request.path == "/Thingworx/Things/Pump%201%2Fa/Services/Update"
        assert request.headers["appKey"] == KEY
        assert request.headers["Accept"] == request.headers["Content-Type"] == "application/json"
        assert request.headers["x-thingworx-session"] == "false"
        assert request.body == b'{"values":1}'
        assert KEY not in repr(client) + repr(vars(client))


def test_no_body_means_no_table_and_no_parameters_an_empty_object() -> None:
    with answering(lambda _: Answer()) as platform, client_of(platform.url) as client:
        assert client.service("Things", "Pump", "Enable") is None
        assert platform.received[0].body == b"{}"


def test_cookies_are_not_kept() -> None:
    reply = Answer(200, b"", {"Set-Cookie": "JSESSIONID=1; Path=/"})
    with answering(lambda _: reply) as platform, client_of(platform.url) as client:
        call(client)
        call(client)
        assert not any("Cookie" in request.headers for request in platform.received)


def test_credentials_of_the_machine_are_not_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password theirs\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with answering(lambda _: Answer()) as platform, client_of(platform.url) as client:
        call(client)
        assert "Authorization" not in platform.received[0].headers


def refusing(key: str) -> Callable[[Received], Answer]:
    return lambda request: Answer(401 if request.headers["appKey"] == key else 200)


def test_a_refused_key_is_read_again_once_and_a_new_one_used() -> None:
    with answering(refusing("old")) as platform, client_of(platform.url, "old", KEY) as client:
        call(client)
        call(client)
        assert [request.headers["appKey"] for request in platform.received] == ["old", KEY, KEY]


def test_a_call_with_a_new_key_is_made_only_when_it_still_may_be() -> None:
    passes = [True, False]

    def check() -> None:
        if not passes.pop(0):
            raise PermissionError("the slot is another's")

    with answering(refusing("old")) as platform, client_of(platform.url, "old", KEY) as client:
        with pytest.raises(PermissionError):
            client.service("Things", "pump", "UpdatePropertyValues", {}, check)
        assert len(platform.received) == 1


def test_all_calls_that_were_refused_with_the_old_key_use_the_new_one() -> None:
    both = threading.Barrier(2)

    def answer(request: Received) -> Answer:
        if request.headers["appKey"] == "old":
            both.wait(10)
            return Answer(401)
        return Answer()

    faults: list[BaseException] = []

    def calling() -> None:
        try:
            call(client)
        except ThingworxError as error:
            faults.append(error)

    with answering(answer) as platform, client_of(platform.url, "old", KEY) as client:
        threads = [threading.Thread(target=calling) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert not faults
        assert len(platform.received) == 4


def test_a_key_that_is_refused_and_has_not_changed_needs_a_person() -> None:
    with answering(refusing(KEY)) as platform, client_of(platform.url) as client:
        with pytest.raises(ThingworxRefused, match="application key") as caught:
            call(client)
        assert len(platform.received) == 1
        check_secret(caught.value)


@pytest.mark.parametrize(
    ("answer", "error", "says"),
    [
        (Answer(302, b"", {"Location": "/Thingworx/login"}), ThingworxRefused, "redirects"),
        (Answer(304), ThingworxRefused, "redirects"),
        (Answer(200, b"<html>Log in</html>", {"Content-Type": "text/html"}), ThingworxRefused, "Log in"),
        (Answer(200, b'{"rows": ['), ThingworxRefused, "JSON"),
        (Answer(200, b"[1, 2]"), ThingworxRefused, "JSON"),
        (Answer(503, b"starting"), ThingworxUnavailable, "503: starting"),
        (Answer(429), ThingworxUnavailable, "429: empty body"),
        (Answer(502), ThingworxUnavailable, "502"),
        (Answer(504), ThingworxUnavailable, "504"),
        (Answer(404, b"Entity Not Found"), ThingworxCallFailed, "404.*Entity Not Found"),
        (Answer(403), ThingworxCallFailed, "403"),
        (Answer(0), ThingworxUnavailable, "no answer"),
    ],
)
def test_what_each_answer_means(answer: Answer, error: type[ThingworxError], says: str) -> None:
    caught = failure(answer)
    assert type(caught) is error
    assert re.search(says, str(caught))


def test_a_failing_service_tells_its_sentence_without_the_page_around_it() -> None:
    page = (
        b"<html><head><style>p {color: red}</style></head><body><p>Unable to Invoke Service Update on "
        b"Pump : <b>locked</b></p></body></html>"
    )
    caught = failure(Answer(500, page, {"Content-Type": "text/html"}))
    assert isinstance(caught, ThingworxCallFailed)
    assert caught.status == 500
    assert "Unable to Invoke Service Update on Pump : locked" in caught.reason
    assert "color" not in caught.reason


def test_a_page_without_end_is_cut() -> None:
    caught = failure(Answer(500, b"\xff<p>" + b"long " * 100_000))
    assert len(str(caught)) < 500


def test_a_platform_that_repeats_the_key_does_not_get_it_into_the_logs() -> None:
    for status in (200, 404, 500, 503):

        def answer(request: Received, status: int = status) -> Answer:
            return Answer(status, f"headers were {request.headers}".encode())

        caught = failure(answer)
        assert "(application key)" in str(caught)


def test_silence_is_unavailable_after_the_time_out() -> None:
    go_on = threading.Event()

    def answer(_: Received) -> Answer:
        go_on.wait(10)
        return Answer()

    with answering(answer) as platform, client_of(platform.url, timeouts=(5, 0.05)) as client:
        with pytest.raises(ThingworxUnavailable, match=r"[Tt]imed out|Timeout") as caught:
            call(client)
        go_on.set()
        check_secret(caught.value)


def test_a_closed_port_is_unavailable() -> None:
    with answering(lambda _: Answer()) as platform:
        pass
    with client_of(platform.url) as client, pytest.raises(ThingworxUnavailable, match="refused") as caught:
        call(client)
    check_secret(caught.value)


@pytest.fixture
def certificates(tmp_path: Path) -> tuple[ssl.SSLContext, Path]:
    """A server's certificate for 127.0.0.1, and the authority that it comes from."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return context, tmp_path / "ca.pem"


def test_a_certificate_of_an_unknown_authority_is_refused_before_the_key_is_sent(
    certificates: tuple[ssl.SSLContext, Path],
) -> None:
    with (
        answering(lambda _: Answer(), certificates[0]) as platform,
        client_of(platform.url) as client,
    ):
        with pytest.raises(ThingworxRefused, match="certificate") as caught:
            call(client)
        assert not platform.received
        check_secret(caught.value)


def test_a_certificate_for_another_host_is_refused(
    certificates: tuple[ssl.SSLContext, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificates[1]))
    with answering(lambda _: Answer(), certificates[0]) as platform:
        elsewhere = platform.url.replace("127.0.0.1", "localhost")
        with client_of(elsewhere) as client, pytest.raises(ThingworxRefused, match="certificate"):
            call(client)


def test_a_private_authority_may_be_trusted(
    certificates: tuple[ssl.SSLContext, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificates[1]))
    with answering(lambda _: Answer(), certificates[0]) as platform, client_of(platform.url) as client:
        call(client)
        assert len(platform.received) == 1


def test_an_authority_file_that_is_not_there_needs_a_person(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/ca.pem")
    with (
        client_of("https://127.0.0.1:9/Thingworx") as client,
        pytest.raises(ThingworxRefused, match=r"ca\.pem"),
    ):
        call(client)


def test_a_server_that_speaks_no_tls_is_not_taken_for_a_bad_certificate() -> None:
    with answering(lambda _: Answer()) as platform:
        url = platform.url.replace("http://", "https://")
        with client_of(url) as client, pytest.raises(ThingworxUnavailable):
            call(client)


@pytest.mark.parametrize("key", [f"{KEY}\r\nX-Other: 1", f"{KEY} and more", f"{KEY}\u00e9", "", "\x00"])
def test_a_secret_that_is_no_key_is_refused_without_being_told(key: str) -> None:
    with answering(lambda _: Answer()) as platform, client_of(platform.url, key) as client:
        with pytest.raises(ThingworxRefused, match=ARN) as caught:
            call(client)
        assert not platform.received
        check_secret(caught.value)


@pytest.mark.parametrize(
    "error",
    [
        ClientError({"Error": {"Code": "AccessDeniedException", "Message": ""}}, "GetSecretValue"),
        EndpointConnectionError(endpoint_url="https://secretsmanager"),
    ],
)
def test_a_secret_that_can_not_be_read_now_is_waited_for(error: Exception) -> None:
    with (
        client_of("https://127.0.0.1:9/Thingworx", error) as client,
        pytest.raises(ThingworxUnavailable, match="application key"),
    ):
        call(client)
