"""Every version of a schema reads what every other version wrote."""

import copy
import io
import json
import re
from itertools import combinations
from typing import Any

import pytest
from fastavro import parse_schema, schemaless_reader, schemaless_writer
from fastavro.utils import generate_one

from audience_core.codec import CURRENT
from audience_core.schema_files import VERSION, schema_folder

FILE = re.compile(r"([A-Z][A-Za-z]+)\.v([1-9][0-9]*)\.avsc")
PROMOTIONS = {
    ("int", "long"),
    ("int", "float"),
    ("int", "double"),
    ("long", "float"),
    ("long", "double"),
    ("float", "double"),
    ("string", "bytes"),
    ("bytes", "string"),
}


def unreadable(writer: Any, reader: Any, at: str = "") -> list[str]:
    """Return why data of `writer` can't be read as `reader` (Avro specification, "Schema Resolution")."""
    if isinstance(writer, list):
        return [problem for branch in writer for problem in unreadable(branch, reader, at)]
    if isinstance(reader, list):
        fits = any(not unreadable(writer, branch, at) for branch in reader)
        return [] if fits else [f"{at}: {_kind(writer)} is in no branch of the reader's union"]
    kind, wanted = _kind(writer), _kind(reader)
    if kind != wanted:
        return [] if (kind, wanted) in PROMOTIONS else [f"{at}: {kind} is not readable as {wanted}"]
    return _unreadable_inside(kind, writer, reader, at)


def _unreadable_inside(kind: str, writer: Any, reader: Any, at: str) -> list[str]:
    if kind == "record":
        return _unreadable_record(writer, reader, at)
    if kind == "enum":
        lost = set(writer["symbols"]) - set(reader["symbols"])
        return [f"{at}: the reader lacks {sorted(lost)}"] if lost and "default" not in reader else []
    inner = {"array": "items", "map": "values"}.get(kind)
    return unreadable(writer[inner], reader[inner], f"{at}[]") if inner else []


def _unreadable_record(writer: Any, reader: Any, at: str) -> list[str]:
    if writer["name"] != reader["name"]:
        return [f"{at}: record {writer['name']} is not {reader['name']}"]
    written = {field["name"]: field["type"] for field in writer["fields"]}
    problems = []
    for field in reader["fields"]:
        path = f"{at}.{field['name']}"
        if field["name"] in written:
            problems += unreadable(written[field["name"]], field["type"], path)
        elif "default" not in field:
            problems.append(f"{path}: neither written nor given a default")
    return problems


def _kind(schema: Any) -> str:
    return schema if isinstance(schema, str) else str(schema["type"])


def incompatible(old: Any, new: Any) -> list[str]:
    """Return what breaks in either direction."""
    backward = [f"new can't read old: {problem}" for problem in unreadable(old, new)]
    return backward + [f"old can't read new: {problem}" for problem in unreadable(new, old)]


def versions() -> dict[str, dict[int, Any]]:
    found: dict[str, dict[int, Any]] = {}
    for path in sorted(schema_folder().glob("*.avsc")):
        match = FILE.fullmatch(path.name)
        assert match, f"{path.name} is not <Name>.v<version>.avsc"
        found.setdefault(match[1], {})[int(match[2])] = json.loads(path.read_text("utf-8"))
    return found


def example() -> dict[str, Any]:
    """MembershipChange holds every kind of type but a union and a map."""
    return copy.deepcopy(versions()["MembershipChange"][1])


def test_the_schemas_in_use_are_the_files_in_the_folder() -> None:
    assert set(versions()) == set(CURRENT)
    assert all(VERSION in numbered for numbered in versions().values())


@pytest.mark.parametrize("name", CURRENT)
def test_a_file_holds_the_record_of_its_name_in_one_namespace(name: str) -> None:
    for schema in versions()[name].values():
        assert (schema["name"], schema["namespace"]) == (name, "com.abtasty.audiences")


@pytest.mark.parametrize("name", CURRENT)
def test_versions_count_from_1_without_a_gap(name: str) -> None:
    assert sorted(versions()[name]) == list(range(1, len(versions()[name]) + 1))


@pytest.mark.parametrize("name", CURRENT)
def test_every_version_reads_what_every_other_version_wrote(name: str) -> None:
    for old, new in combinations(sorted(versions()[name]), 2):
        problems = incompatible(versions()[name][old], versions()[name][new])
        assert problems == [], f"{name}: v{old} and v{new}"


def test_a_new_field_with_a_default_is_compatible() -> None:
    new = example()
    new["fields"].append({"name": "source", "type": "string", "default": ""})
    assert incompatible(example(), new) == []
    assert reads(example(), new)
    assert reads(new, example())


def test_a_new_field_without_a_default_is_caught() -> None:
    new = example()
    new["fields"].append({"name": "source", "type": "string"})
    problem = "new can't read old: .source: neither written nor given a default"
    assert incompatible(example(), new) == [problem]
    assert not reads(example(), new)


def test_a_lost_required_field_is_caught() -> None:
    new = example()
    new["fields"] = [field for field in new["fields"] if field["name"] != "mpid"]
    problem = "old can't read new: .mpid: neither written nor given a default"
    assert incompatible(example(), new) == [problem]
    assert not reads(new, example())


@pytest.mark.parametrize("kind", ["long", ["null", "string"]])
def test_a_changed_type_is_caught(kind: Any) -> None:
    new = example()
    next(field for field in new["fields"] if field["name"] == "mpid")["type"] = kind
    assert incompatible(example(), new)


def test_a_change_deep_inside_an_array_is_caught() -> None:
    new = example()
    changes = next(field for field in new["fields"] if field["name"] == "changes")["type"]
    action = changes["items"]["fields"][-1]["type"]
    action["symbols"] = [*action["symbols"], "ATTRIBUTE_UPDATE"]
    assert incompatible(example(), new) == [
        "old can't read new: .changes[].action: the reader lacks ['ATTRIBUTE_UPDATE']"
    ]


def test_a_wider_number_is_caught_because_old_readers_stop() -> None:
    new = copy.deepcopy(versions()["ShardCount"][1])
    next(field for field in new["fields"] if field["name"] == "shard")["type"] = "long"
    assert incompatible(versions()["ShardCount"][1], new) == ["old can't read new: .shard: long is not readable as int"]


def reads(writer: Any, reader: Any) -> bool:
    """Whether the Avro library itself reads an example of `writer` as `reader`."""
    parsed = parse_schema(writer)
    data = io.BytesIO()
    schemaless_writer(data, parsed, generate_one(parsed))
    data.seek(0)
    try:
        schemaless_reader(data, parsed, parse_schema(reader))
    except Exception:  # noqa: BLE001 - whatever the library raises, it did not read
        return False
    return True
