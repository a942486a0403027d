"""The reader of configuration files: positions, paths, bounds, and no secret in an error message."""

from __future__ import annotations

import os
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lispmob.config.reader import Section, read_bytes, read_yaml
from lispmob.config.values import (
    Address,
    FieldError,
    InstanceId,
    KeyFile,
    Network,
    Priority,
    Secret,
    SecretText,
    YesNo,
    duration,
    short_duration,
)
from lispmob.errors import ConfigError


class Inner(Section, frozen=True, kw_only=True):
    priority: Priority = 1
    on: YesNo = False


class Outer(Section, frozen=True, kw_only=True):
    items: tuple[Inner, ...] = ()
    address: Address | None = None
    network: Network | None = None
    instance_id: InstanceId = 0
    interval_s: Annotated[float, duration("s", 5, 3600)] = 60.0
    inner: Inner = Inner()
    key: SecretText | None = None
    key_file: KeyFile | None = None

    def __post_init__(self) -> None:
        if self.instance_id == 13:
            raise FieldError("instance-id", "13 brings bad luck")
        if self.instance_id == 14:
            raise FieldError("items[1].priority", "14 is not for the second")


class Needy(Section, frozen=True, kw_only=True):
    name: YesNo


def read(text: str | bytes, directory: Path = Path()) -> Outer:
    raw = text.encode() if isinstance(text, str) else text
    return read_bytes(raw, "lispd.conf", Outer, directory=directory)


def complaint(text: str | bytes, directory: Path = Path()) -> str:
    with pytest.raises(ConfigError) as caught:
        read(text, directory)
    return str(caught.value)


def verdict(text: str | bytes) -> str:
    """The error message, "" for none. Any other exception fails the test."""
    try:
        read(text)
    except ConfigError as error:
        return str(error)
    return ""


def test_an_error_names_file_line_column_path_value_and_what_is_accepted() -> None:
    text = "address: 192.0.2.1\nitems:\n  - on: yes\n    priority: 300\n"

    assert complaint(text) == "lispd.conf:4:15: items[0].priority: 300 is not 0 to 255"


def test_every_error_of_a_file_is_reported_at_once() -> None:
    assert complaint("address: here\ninner:\n  on: maybe\n").splitlines() == [
        "lispd.conf:1:10: address: here is not the IPv4 or IPv6 address of one host",
        "lispd.conf:3:7: inner.on: maybe is not yes or no",
    ]


def test_the_number_of_reported_errors_is_bounded() -> None:
    lines = complaint("items:\n" + "  - priority: x\n" * 50).splitlines()

    assert len(lines) == 21
    assert lines[-1] == "lispd.conf: and 30 more"


@pytest.mark.parametrize("text", ["yes", "no", "on", "off", "true", "False", '"yes"'])
def test_yes_and_no_are_booleans_where_the_schema_wants_one(text: str) -> None:
    assert read(f"inner: {{on: {text}}}").inner.on is (text.strip('"').lower() in ("yes", "on", "true"))


@pytest.mark.parametrize("text", ["no", "010", "12:30", "2001:10:20", "2026-01-01", "~", "null", "0x10", "1e3"])
def test_a_key_that_looks_like_another_yaml_type_stays_the_text_it_is(text: str) -> None:
    assert read(f"key: {text}").key == Secret(text.encode())


@pytest.mark.parametrize("text", ["0x10", "1_000", "-1", "+1", "1.0", "١"])
def test_a_number_is_written_in_decimal_digits_and_nothing_else(text: str) -> None:
    assert "instance-id" in complaint(f"instance-id: {text}")


def test_an_unknown_key_comes_with_the_nearest_known_one() -> None:
    assert complaint("inner:\n  priorty: 1") == "lispd.conf:2:3: inner.priorty: unknown key; did you mean 'priority'?"
    assert complaint("Instance_ID: 1").endswith("unknown key; did you mean 'instance-id'?")
    assert complaint("inner: {zzzzzz: 1}").endswith("unknown key; known here: priority, on")


def test_a_missing_key_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^x:1:1: the key 'name' is missing$"):
        read_bytes(b"{}", "x", Needy, directory=Path())


def test_a_key_given_twice_is_refused() -> None:
    assert complaint("instance-id: 1\ninstance-id: 2") == (
        "lispd.conf:2:1: instance-id: this key already stands in line 1"
    )


def test_a_key_with_nothing_but_comments_below_it_counts_as_absent() -> None:
    assert read("items:\n#  - priority: 1\ninner:\n") == Outer()


def test_a_value_that_is_missing_says_what_is_expected() -> None:
    assert complaint("instance-id:") == "lispd.conf:1:13: instance-id: no value; expected is 0 to 16777215"


def test_a_wrong_shape_says_which_one_is_expected() -> None:
    assert "items: plain text where a list is expected" in complaint("items: 5")
    assert "inner: a list where 'key: value' lines are expected" in complaint("inner: [1]")
    assert "address: 'key: value' lines where the IPv4" in complaint("address: {a: b}")
    assert complaint("just words") == "lispd.conf:1:1: plain text where 'key: value' lines are expected"


def test_a_rule_across_keys_points_at_the_key_it_names() -> None:
    assert complaint("inner: {}\ninstance-id: 13") == "lispd.conf:2:14: instance-id: 13 brings bad luck"
    assert complaint("instance-id: 14\nitems:\n  - on: no\n  - priority: 7").startswith("lispd.conf:4:15: items[1]")


def test_a_network_with_host_bits_offers_both_things_that_may_be_meant() -> None:
    assert complaint("network: 10.1.2.3/16").endswith(
        "10.1.2.3/16 has bits beyond the prefix length; write 10.1.0.0/16 or 10.1.2.3/32"
    )


@pytest.mark.parametrize("text", ["224.0.0.1", "0.0.0.0", "::", "ff02::1", "fe80::1%eth0", "10.0.0.0/8", "1", ""])
def test_an_address_is_that_of_one_host(text: str) -> None:
    complaint(f'address: "{text}"')


def test_ipv6_needs_no_quotes() -> None:
    assert read("address: 2001:db8::1").address == ip_address("2001:db8::1")


@pytest.mark.parametrize(
    ("text", "seconds"), [("30", 30), ("30s", 30), ("1.5m", 90), ("1h", 3600), ("5", 5), ("0.5h", 1800)]
)
def test_durations_have_units(text: str, seconds: float) -> None:
    assert read(f"interval-s: {text}").interval_s == seconds


@pytest.mark.parametrize("text", ["4s", "2h", "1w", "s", "-5s", "1 m", "nan", "inf", "9" * 30])
def test_a_duration_out_of_range_or_without_sense_is_refused(text: str) -> None:
    assert "is not a duration from 5s to 1h, such as" in complaint(f"interval-s: {text}")


def test_short_durations_use_the_largest_even_unit() -> None:
    assert [short_duration(s) for s in (5, 60, 90, 3600, 86400, 0.5)] == ["5s", "1m", "90s", "1h", "1d", "0.5s"]


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.conf: cannot read the file: No such file or directory$"):
        read_yaml(tmp_path / "none.conf", Outer)
    with pytest.raises(ConfigError, match="Is a directory"):
        read_yaml(tmp_path, Outer)


@pytest.mark.parametrize("raw", [b"", b"\n\n", b"# only a comment\n", b"---\n", b"\xef\xbb\xbf"])
def test_an_empty_file_says_so(raw: bytes) -> None:
    assert complaint(raw).startswith("lispd.conf: the file is empty")


def test_text_that_is_not_utf8_is_located() -> None:
    assert complaint(b"inner: {}\nkey: \xff\xfe") == "lispd.conf:2:6: this is not UTF-8 text"


def test_a_byte_order_mark_is_no_error() -> None:
    assert read(b"\xef\xbb\xbfinstance-id: 5").instance_id == 5


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("inner:\n\t- a", "2:1"),
        ("a: b: c", "1:5"),
        ("items: [1, 2", "1:13"),
        ("key: 'open", "1:11"),
        ("key: %abc", "1:6"),
        ("key: \x07", "1:6"),
        ("key: {}\n--- {}", "2:1"),
        ("? [a]\n: b", "1:3"),
        ('key: "\\UFFFFFFFF"', "1:1"),
        ('key: "\\uD800"', "1:6"),
    ],
)
def test_a_syntax_error_is_located(text: str, where: str) -> None:
    assert complaint(text).startswith(f"lispd.conf:{where}: ")


@pytest.mark.parametrize(
    "text", ["key: &hunter2 x", "key: *hunter2", "a: &x [1]\nb: *x", "key: !hunter2 x", "key: !!str x"]
)
def test_anchors_aliases_and_tags_are_refused_without_showing_them(text: str) -> None:
    assert "put the value in quotes" in complaint(text)
    assert "hunter2" not in complaint(text)


def test_nesting_and_size_are_bounded() -> None:
    assert "nested deeper than 16 levels" in complaint("a: " + "[" * 5000)
    assert "more than 100000 values" in complaint("a: [" + "1," * 200_000 + "]")
    assert "more than 1048576 octets" in complaint(b"#" * (1 << 20) + b"\n")


# --- secrets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "key: [hunter2]",
        "key: {hunter2: x}",
        "key: " + "hunter2" * 100,
        "items: hunter2",
        "inner: hunter2",
        "inner: [hunter2]",
        "key: @hunter2",
        "key: `hunter2",
        "key: %hunter2",
        "key: |hunter2",
        "key: 'hunter2",
        'key: "\\hunter2"',
        "key: hunter2: x",
        "hunter2",
    ],
)
def test_no_error_shows_a_key(text: str) -> None:
    assert "hunter2" not in complaint(text).replace("known here", "")


def test_no_representation_shows_a_key() -> None:
    found = read("key: hunter2")

    assert "hunter2" not in f"{found} {found!r} {found.key} {found.key!r}"


def write_key(path: Path, octets: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(octets)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("octets", [b"s3cret", b"s3cret\n", b"s3cret\r\n"])
def test_a_key_file_holds_the_key_in_one_line(tmp_path: Path, octets: bytes) -> None:
    write_key(tmp_path / "my.key", octets)

    assert read("key-file: my.key", tmp_path).key_file == Secret(b"s3cret")


def test_a_key_file_that_every_user_can_read_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = write_key(tmp_path / "my.key", b"s3cret", 0o644)

    assert complaint("key-file: my.key", tmp_path) == (
        f"lispd.conf:1:11: key-file: every user can read the key in {path}; run: chmod 600 {path}"
    )


def test_a_key_file_that_cannot_be_used_says_why(tmp_path: Path) -> None:
    write_key(tmp_path / "empty", b"\n")
    write_key(tmp_path / "long", b"x" * 300)
    os.mkfifo(tmp_path / "fifo", 0o600)

    assert "No such file" in complaint("key-file: none", tmp_path)
    assert "is not a regular file" in complaint("key-file: fifo", tmp_path)
    assert "Is a directory" in complaint("key-file: .", tmp_path)
    assert "1 to 256 octets" in complaint("key-file: empty", tmp_path)
    assert "1 to 256 octets" in complaint("key-file: long", tmp_path)
    assert "the path of a" in complaint('key-file: "a\\0b"', tmp_path)


# --- properties -------------------------------------------------------------------------------------------------------

yaml_like = st.text(st.sampled_from("abk:-[]{},#&*!|>'\"%@`?~ \n\t0129.\\\0\x85\u2028é"), max_size=60)


@given(
    st.one_of(st.text(max_size=80), yaml_like).map(lambda text: text.encode("utf-8", "replace"))
    | st.binary(max_size=80)
)
def test_any_octets_are_a_configuration_or_a_config_error(raw: bytes) -> None:
    assert verdict(raw).startswith("lispd.conf:") or isinstance(read(raw), Outer)


@given(
    st.dictionaries(
        st.sampled_from(["key", "address", "items", "inner", "interval-s", "network", "key-file"]), yaml_like
    )
)
def test_any_text_as_a_value_is_accepted_or_a_config_error(values: dict[str, str]) -> None:
    text = "".join(f"{key}: {value!r}\n" for key, value in values.items())
    assert verdict(text).startswith("lispd.conf:") or isinstance(read(text), Outer)
