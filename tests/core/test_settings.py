"""Settings: durations, errors that name the variable, secrets that never print."""

from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from audience_core.errors import SettingsError
from audience_core.settings import CoreSettings, load, parse_duration, source_of

SECRET = "s3cret-that-must-not-print"


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("250ms", timedelta(milliseconds=250)),
        ("30s", timedelta(seconds=30)),
        ("30", timedelta(seconds=30)),
        ("1.5s", timedelta(seconds=1.5)),
        ("5m", timedelta(minutes=5)),
        ("24h", timedelta(hours=24)),
        ("21d", timedelta(days=21)),
        (" 24 h ", timedelta(hours=24)),
        ("0", timedelta(0)),
    ],
)
def test_a_duration_is_a_number_with_a_unit_or_bare_seconds(
    text: str, duration: timedelta, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert parse_duration(text) == duration
    monkeypatch.setenv("AUDIENCE_ORDERING_WINDOW", text)
    assert load(CoreSettings).ordering_window == duration


@pytest.mark.parametrize("text", ["soon", "5 weeks", "h", "1h30m", "-5s"])
def test_a_duration_that_is_none_is_an_error_that_names_the_variable(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDIENCE_ORDERING_WINDOW", text)
    with pytest.raises(SettingsError, match="AUDIENCE_ORDERING_WINDOW"):
        load(CoreSettings)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("AUDIENCE_SHARDS", "many"),
        ("AUDIENCE_SHARDS", "0"),
        ("AUDIENCE_SHARDS", "4097"),
        ("AUDIENCE_KAFKA_REPLICATION", "0"),
        ("AUDIENCE_REDIS_MODE", "sharded"),
        ("AUDIENCE_REDIS_MODE", "sentinel"),  # without AUDIENCE_REDIS_NODES
        ("AUDIENCE_REDIS_NODES", "10.0.0.1"),
        ("AUDIENCE_KAFKA_GROUP_PROTOCOL", "eager"),
        ("AUDIENCE_IDENTITY_ERASURE", "perhaps"),
    ],
)
def test_a_wrong_setting_is_an_error_that_names_its_variable(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=variable):
        load(CoreSettings)


def test_every_wrong_setting_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIENCE_SHARDS", "many")
    monkeypatch.setenv("AUDIENCE_REDIS_TIMEOUT", "soon")
    with pytest.raises(SettingsError) as caught:
        load(CoreSettings)
    assert "AUDIENCE_SHARDS" in str(caught.value)
    assert "AUDIENCE_REDIS_TIMEOUT" in str(caught.value)


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIENCE_SHARDS", "")
    assert load(CoreSettings).shards == 64


def test_librdkafka_options_are_a_json_object(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIENCE_KAFKA_OPTIONS", '{"security.protocol": "SASL_SSL"}')
    assert load(CoreSettings).kafka_options == {"security.protocol": "SASL_SSL"}


def test_windows_are_known_in_milliseconds() -> None:
    settings = CoreSettings(ordering_window=timedelta(hours=24), erasure_suppression=timedelta(days=21))
    assert settings.window_ms == 86_400_000
    assert settings.suppression_ms == 21 * 86_400_000


def test_secrets_do_not_print() -> None:
    settings = CoreSettings(
        pepper=SecretStr(SECRET),
        redis_url=SecretStr(f"redis://:{SECRET}@127.0.0.1:6379/0"),
        kafka_options={"sasl.password": SECRET},
    )
    assert SECRET not in repr(settings)
    assert SECRET not in str(settings)
    assert settings.pepper.get_secret_value() == SECRET


def test_an_error_does_not_print_the_value_it_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIENCE_SHARDS", SECRET)
    with pytest.raises(SettingsError) as caught:
        load(CoreSettings)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("pepper", ["", "fifteen chars.."])
def test_a_pepper_that_could_be_guessed_is_refused(pepper: str) -> None:
    with pytest.raises(SettingsError, match="AUDIENCE_PEPPER"):
        CoreSettings(pepper=SecretStr(pepper)).required_pepper()


def test_a_long_pepper_is_handed_out_as_bytes() -> None:
    assert CoreSettings(pepper=SecretStr(SECRET)).required_pepper() == SECRET.encode()


def test_settings_never_change_after_the_start() -> None:
    settings = CoreSettings()
    with pytest.raises(ValidationError):
        settings.shards = 5  # type: ignore[misc]


def mount(folder: Path, **secrets: str) -> None:
    """Lay files out as Kubernetes mounts a Secret: each a link through a link that is swapped on an update."""
    versioned = folder / "..2026_01_01"
    versioned.mkdir()
    (folder / "..data").symlink_to(versioned.name)
    for name, value in secrets.items():
        (versioned / name).write_text(value)
        (folder / name).symlink_to(f"..data/{name}")


def test_secrets_are_read_from_the_files_of_a_mounted_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mount(tmp_path, AUDIENCE_PEPPER=f"{SECRET}\n", AUDIENCE_KAFKA_OPTIONS='{"sasl.password": "k"}')
    monkeypatch.setenv("AUDIENCE_SECRETS_DIR", str(tmp_path))
    settings = load(CoreSettings)
    assert settings.pepper.get_secret_value() == SECRET
    assert settings.kafka_options == {"sasl.password": "k"}
    assert [source_of(f"AUDIENCE_{name}") for name in ("PEPPER", "SECRETS_DIR", "SHARDS")] == [
        "file",
        "environment",
        "default",
    ]


def test_the_environment_has_precedence_over_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mount(tmp_path, AUDIENCE_SHARDS="8", AUDIENCE_KAFKA_REPLICATION="2")
    monkeypatch.setenv("AUDIENCE_SECRETS_DIR", str(tmp_path))
    monkeypatch.setenv("AUDIENCE_SHARDS", "16")
    assert (load(CoreSettings).shards, load(CoreSettings).kafka_replication) == (16, 2)


def test_a_secrets_folder_that_is_not_there_is_an_error_and_no_silent_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDIENCE_SECRETS_DIR", str(tmp_path / "none"))
    with pytest.raises(SettingsError, match="AUDIENCE_SECRETS_DIR"):
        load(CoreSettings)


def test_a_wrong_value_in_a_file_names_its_setting_and_does_not_print(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mount(tmp_path, AUDIENCE_SHARDS=SECRET)
    monkeypatch.setenv("AUDIENCE_SECRETS_DIR", str(tmp_path))
    with pytest.raises(SettingsError, match="AUDIENCE_SHARDS") as caught:
        load(CoreSettings)
    assert SECRET not in str(caught.value)
