"""Records to bytes and back; what no reader can decode is poison, and nothing else happens."""

import struct
from typing import Any

import pytest
from fastavro import parse_schema
from fastavro.schema import to_parsing_canonical_form
from hypothesis import given
from hypothesis import strategies as st

from audience_core.change_reader import as_change
from audience_core.codec import CURRENT, Codec
from audience_core.errors import PoisonRecord
from audience_core.schema_files import load_schema

INTS = st.integers(-(2**31), 2**31 - 1)
LONGS = st.integers(-(2**63), 2**63 - 1)
TEXTS = st.text(max_size=30)
_LEAVES: dict[str, st.SearchStrategy[Any]] = {
    "string": TEXTS,
    "long": LONGS,
    "int": INTS,
    "bytes": st.binary(max_size=30),
    "null": st.none(),
}


def values_of(schema: Any) -> st.SearchStrategy[Any]:
    """Everything that a schema of the kinds that we use can hold."""
    if isinstance(schema, list):
        return st.one_of([values_of(branch) for branch in schema])
    kind = schema if isinstance(schema, str) else schema["type"]
    if kind in _LEAVES:
        return _LEAVES[kind]
    if kind == "array":
        return st.lists(values_of(schema["items"]), max_size=4)
    if kind == "map":
        return st.dictionaries(TEXTS, values_of(schema["values"]), max_size=4)
    if kind == "enum":
        return st.sampled_from(schema["symbols"])
    assert kind == "record", kind
    return st.fixed_dictionaries({field["name"]: values_of(field["type"]) for field in schema["fields"]})


RECORDS = st.sampled_from(CURRENT).flatmap(lambda name: st.tuples(st.just(name), values_of(load_schema(name))))


def crc_64_avro(data: bytes) -> int:
    """The Avro specification's fingerprint, bit by bit, from its text rather than from our library."""
    crc = empty = 0xC15D213AA4D7A795
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (empty if crc & 1 else 0)
    return crc


class OneSchemaRegistry:
    """A registry that knows ShardCount as id 7."""

    def id_of(self, name: str) -> int:
        assert name == "ShardCount"
        return 7

    def schema_of(self, schema_id: int) -> tuple[str, dict[str, Any]]:
        if schema_id != 7:
            raise PoisonRecord("unknown_schema", f"id {schema_id}")
        return "ShardCount", load_schema("ShardCount")


COUNT = {"account": "demo", "audience_id": 1, "epoch": 0, "shard": 2, "count": 3, "offset": 4}


@given(RECORDS)
def test_every_record_reads_back_as_it_was_written(named: tuple[str, dict[str, Any]]) -> None:
    codec = Codec()
    assert codec.decode(codec.encode(*named)) == named


@given(RECORDS, st.data())
def test_a_truncated_record_is_poison(named: tuple[str, dict[str, Any]], data: st.DataObject) -> None:
    encoded = Codec().encode(*named)
    cut = encoded[: data.draw(st.integers(0, len(encoded) - 1))]
    with pytest.raises(PoisonRecord):
        Codec().decode(cut)


@given(RECORDS, st.binary(min_size=1, max_size=20))
def test_bytes_after_the_record_are_poison(named: tuple[str, dict[str, Any]], more: bytes) -> None:
    with pytest.raises(PoisonRecord) as caught:
        Codec().decode(Codec().encode(*named) + more)
    assert caught.value.reason == "undecodable"


@given(st.binary(max_size=60))
def test_bytes_of_anybody_else_are_poison(data: bytes) -> None:
    with pytest.raises(PoisonRecord):
        Codec().decode(data)


@given(st.sampled_from(CURRENT), st.binary(max_size=60))
def test_a_known_header_before_any_bytes_gives_a_record_or_poison_and_no_other_error(name: str, body: bytes) -> None:
    header = b"\xc3\x01" + fingerprint_of(name)
    try:
        decoded, _ = Codec().decode(header + body)
    except PoisonRecord:
        return
    assert decoded == name


@pytest.mark.parametrize("data", [None, b"", b"\x00", b"\xc3", b"\xc3\x01", b"{}", b"\xc3\x01" + bytes(8)])
def test_an_empty_record_or_an_unknown_fingerprint_is_poison(data: bytes | None) -> None:
    with pytest.raises(PoisonRecord) as caught:
        Codec().decode(data)
    assert caught.value.reason == "unknown_schema"


def fingerprint_of(name: str) -> bytes:
    return crc_64_avro(to_parsing_canonical_form(load_schema(name)).encode()).to_bytes(8, "little")


def test_a_record_starts_with_the_specifications_marker_and_fingerprint() -> None:
    assert crc_64_avro(b'"int"') == 0x7275D51A3F395C8F  # a value of the Avro project's own tests
    encoded = Codec().encode("ShardCount", COUNT)
    assert encoded[:10] == b"\xc3\x01" + fingerprint_of("ShardCount")


def test_every_schema_has_its_own_fingerprint() -> None:
    assert len({fingerprint_of(name) for name in CURRENT}) == len(CURRENT)


def test_a_fingerprint_of_a_changed_schema_is_another_one() -> None:
    changed = parse_schema({"type": "record", "name": "ShardCount", "fields": [{"name": "count", "type": "long"}]})
    other = crc_64_avro(to_parsing_canonical_form(changed).encode()).to_bytes(8, "little")
    assert other != fingerprint_of("ShardCount")


def test_a_record_without_a_required_field_is_not_written() -> None:
    with pytest.raises(ValueError, match="account"):
        Codec().encode("ShardCount", {})


def test_with_a_registry_records_are_framed_as_confluent_does() -> None:
    codec = Codec(OneSchemaRegistry())
    encoded = codec.encode("ShardCount", COUNT)
    assert encoded[:5] == struct.pack(">bI", 0, 7)
    assert codec.decode(encoded) == ("ShardCount", COUNT)


def test_with_a_registry_records_from_before_it_are_still_read() -> None:
    assert Codec(OneSchemaRegistry()).decode(Codec().encode("ShardCount", COUNT)) == ("ShardCount", COUNT)


def test_confluent_framing_without_a_registry_is_poison_that_names_the_setting() -> None:
    with pytest.raises(PoisonRecord, match="AUDIENCE_SCHEMA_REGISTRY_URL") as caught:
        Codec().decode(Codec(OneSchemaRegistry()).encode("ShardCount", COUNT))
    assert caught.value.reason == "no_registry"


def test_an_id_that_the_registry_does_not_know_is_poison() -> None:
    with pytest.raises(PoisonRecord):
        Codec(OneSchemaRegistry()).decode(struct.pack(">bI", 0, 8) + b"\x00")


def test_poison_never_quotes_the_record() -> None:
    encoded = Codec().encode(
        "VisitorErased", {"account": "demo", "mpid": "1234567890", "received_at": 1, "request_id": "r"}
    )
    with pytest.raises(PoisonRecord) as caught:
        Codec().decode(encoded[:-1])
    assert "1234567890" not in str(caught.value)


MESSAGES = st.lists(
    st.one_of(
        RECORDS.map(lambda named: Codec().encode(*named)),
        values_of(load_schema("MembershipChange")).map(lambda record: Codec().encode("MembershipChange", record)),
    ),
    max_size=8,
)


@given(MESSAGES, st.data())
def test_a_batch_reads_as_its_records_do_one_by_one_also_when_some_are_damaged(
    values: list[bytes], data: st.DataObject
) -> None:
    codec = Codec()
    if len(values) > 1 and data.draw(st.booleans(), label="a byte moves to the next record's end"):
        values = [values[0][:-1], values[1] + values[0][-1:], *values[2:]]
    for n in data.draw(st.sets(st.integers(0, len(values))), label="cut short"):
        values[n : n + 1] = [value[:-1] for value in values[n : n + 1]]

    def alone(value: bytes) -> Any:
        try:
            name, record = codec.decode(value)
        except PoisonRecord as error:
            return error.reason
        return name, as_change(record) if name == "MembershipChange" else record

    together = [found.reason if isinstance(found, PoisonRecord) else found for found in codec.decode_all(values)]
    assert together == [alone(value) for value in values]


@pytest.mark.parametrize("wrong", [{"offset": 2**63}, {"count": "1"}, {"account": None}, {"account": 5}, {"epoch": []}])
def test_a_record_that_does_not_fit_its_schema_is_a_value_error(wrong: dict[str, Any]) -> None:
    record = {"account": "a", "audience_id": 1, "epoch": 0, "shard": 0, "count": 1, "offset": 1, **wrong}
    with pytest.raises(ValueError, match="ShardCount"):
        Codec().encode("ShardCount", record)
