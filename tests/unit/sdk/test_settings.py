"""Settings are read once, and a bad one says in one line what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from seedbed.errors import SettingsError
from seedbed.settings import Reader, node_id_default


def reader(role: str = "", **environ: str) -> Reader:
    return Reader({f"SEEDBED_{name}": value for name, value in environ.items()}, role)


def refusal(read: Callable[[], object]) -> str:
    """The one line with which a setting is refused."""
    with pytest.raises(SettingsError) as caught:
        read()
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_a_setting_that_is_not_there_has_its_default() -> None:
    assert reader().text("SEEDBED_CLUSTER") == "default"
    assert reader().seconds("SEEDBED_LEASE_TTL_S") == 5.0
    assert reader().addresses("SEEDBED_SEEDS") == ("127.0.0.1:4684",)


def test_an_empty_setting_is_one_that_is_not_there() -> None:
    assert reader(CLUSTER=" ").name("SEEDBED_CLUSTER") == "default"


def test_defaults_differ_by_role() -> None:
    assert reader("seed").integer("SEEDBED_PORT") == 4684
    assert reader("worker").integer("SEEDBED_PORT") == 4685


def test_a_setting_that_is_not_declared_cannot_be_read() -> None:
    with pytest.raises(KeyError):
        reader(SOMETHING="1").text("SEEDBED_SOMETHING")


def test_a_required_setting_must_not_be_empty_even_if_it_has_a_default() -> None:
    assert reader().urls("SEEDBED_ETCD", ("http", "https"), required=True)
    assert "SEEDBED_ETCD: found nothing, expected" in refusal(
        lambda: reader(ETCD="").urls("SEEDBED_ETCD", ("http", "https"), required=True)
    )
    assert "SEEDBED_ENTITIES: not set, expected" in refusal(
        lambda: reader().words("SEEDBED_ENTITIES", required=True)
    )


def test_commas_alone_are_nothing() -> None:
    settings = reader(SEEDS=" , ")
    assert settings.addresses("SEEDBED_SEEDS") == ()
    assert "found ','" in refusal(lambda: settings.addresses("SEEDBED_SEEDS", required=True))


@pytest.mark.parametrize("text", ["x", "1.5", "70000", "-1", "1_0", "٣", "9" * 9000])
def test_a_wrong_number_is_refused(text: str) -> None:
    message = refusal(lambda: reader(PORT=text).integer("SEEDBED_PORT", minimum=0, maximum=65535))
    assert message.startswith("SEEDBED_PORT: found '")
    assert message.endswith("expected a whole number from 0 to 65535")
    assert len(message) < 300


@pytest.mark.parametrize("text", ["nan", "inf", "5s", "-1", "1_0", "1e999", ""])
def test_a_wrong_time_is_refused_and_an_empty_one_is_the_default(text: str) -> None:
    settings = reader(LEASE_TTL_S=text)
    if not text:
        assert settings.seconds("SEEDBED_LEASE_TTL_S") == 5.0
        return
    assert "a number of seconds from 2" in refusal(
        lambda: settings.seconds("SEEDBED_LEASE_TTL_S", minimum=2.0)
    )


def test_kubernetes_service_links_are_named_as_the_culprit() -> None:
    message = refusal(lambda: reader(PORT="tcp://10.0.0.1:4684").integer("SEEDBED_PORT"))
    assert "enableServiceLinks: false" in message


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("ON", True), ("off", False), ("False", False)]
)
def test_booleans_are_words(text: str, value: bool) -> None:
    assert reader(TRUST_XFCC=text).boolean("SEEDBED_TRUST_XFCC") is value


def test_another_word_is_no_boolean() -> None:
    message = refusal(lambda: reader(TRUST_XFCC="1").boolean("SEEDBED_TRUST_XFCC"))
    assert message == "SEEDBED_TRUST_XFCC: found '1', expected true, false, on or off"


def test_a_choice_is_one_of_its_words() -> None:
    choices = ("durable", "all", "off")
    assert reader(EVIDENCE="ALL").choice("SEEDBED_EVIDENCE", choices) == "all"
    assert "expected one of durable, all, off" in refusal(
        lambda: reader(EVIDENCE="some").choice("SEEDBED_EVIDENCE", choices)
    )


@pytest.mark.parametrize("text", ["Upper", "under_score", "a" * 64, "a/b", "ä", "a\nb"])
def test_names_keep_to_their_alphabet(text: str) -> None:
    assert "1 to 63 of a-z 0-9 . -" in refusal(lambda: reader(CLUSTER=text).name("SEEDBED_CLUSTER"))


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("web-1", "web-1"),
        ("My_Host.Example", "my-host.example"),
        ("x" * 80, "x" * 63),
        ("héllo", "h-llo"),
        ("", "localhost"),
    ],
)
def test_the_node_id_comes_from_the_host_name(host: str, name: str) -> None:
    assert node_id_default(host) == name


def test_a_given_node_id_wins() -> None:
    assert reader(NODE_ID="a").node_id() == "a"
    assert reader().node_id() == node_id_default()


@pytest.mark.parametrize(
    "text",
    ["a:1,b:2", " a:1 , [::1]:2 ,", "dns:///seeds.local:4684", "10.0.0.1:4684"],
)
def test_addresses_are_taken(text: str) -> None:
    assert reader(SEEDS=text).addresses("SEEDBED_SEEDS")


@pytest.mark.parametrize(
    "text",
    [
        "a", "a:", ":1", "a:0", "a:65536", "a:x", "http://a:1", "::1:2", "dns://a:1",
        "dns:a:1", "dns:///a", "dns:///a:1,b:2", "b:2,dns:///a:1", "user@a:1",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused(text: str) -> None:
    assert "host:port, separated by commas, or one dns:///name:port" in refusal(
        lambda: reader(SEEDS=text).addresses("SEEDBED_SEEDS")
    )


@pytest.mark.parametrize("text", ["http://a", "a:2379", "ftp://a:1", "http://:1", "http://a:x"])
def test_what_is_no_url_is_refused(text: str) -> None:
    assert "http://host:port or https://host:port" in refusal(
        lambda: reader(ETCD=text).urls("SEEDBED_ETCD", ("http", "https"))
    )


def test_a_file_must_be_there(tmp_path: Path) -> None:
    assert reader().file("SEEDBED_TLS_CA") is None
    there = tmp_path / "ca.pem"
    there.write_text("x")
    assert reader(TLS_CA=str(there)).file("SEEDBED_TLS_CA") == there
    assert "No such file" in refusal(
        lambda: reader(TLS_CA=str(tmp_path / "not")).file("SEEDBED_TLS_CA")
    )


def test_a_secret_may_come_from_a_file_and_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "journal"
    file.write_text("postgresql://one\n")
    secret = reader(JOURNAL_FILE=str(file)).secret("SEEDBED_JOURNAL")
    assert secret.read() == "postgresql://one"
    file.write_text("postgresql://two")
    assert secret.read() == "postgresql://two"


def test_a_secret_is_not_shown() -> None:
    secret = reader(JOURNAL="postgresql://user:word@host").secret("SEEDBED_JOURNAL")
    assert "word" not in repr(secret)
    assert secret.read() == "postgresql://user:word@host"


def test_a_secret_is_given_once(tmp_path: Path) -> None:
    file = tmp_path / "journal"
    file.write_text("none")
    both = reader(JOURNAL="none", JOURNAL_FILE=str(file))
    assert "expected only one of them" in refusal(lambda: both.secret("SEEDBED_JOURNAL"))
    missing = reader(JOURNAL_FILE=str(tmp_path / "not"))
    assert "SEEDBED_JOURNAL_FILE: found" in refusal(lambda: missing.secret("SEEDBED_JOURNAL"))
