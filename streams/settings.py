"""Settings that every process shares: read once at start, frozen, and passed on as an argument."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

from pydantic import Field, SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

PREFIX: Final = "PUMPWATCH_"
RULES: Final = Path(__file__).resolve().parent.parent / "alert_rules"


class FileSource(PydanticBaseSettingsSource):
    """Reads ``PUMPWATCH_<FIELD>_FILE``: the value of a setting from a file, as secrets are mounted."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """The stripped text of the file that the environment names for this field, or None."""
        variable = f"{PREFIX}{field_name.upper()}_FILE"
        path = os.environ.get(variable)
        try:
            value = Path(path).read_text(encoding="utf-8").strip() if path else None
        except OSError as error:
            raise SettingsError(f"{variable}: cannot read {path}: {error.strerror}") from error
        return value, field_name, False

    def __call__(self) -> dict[str, Any]:
        """Every field that is given by a file."""
        found = {name: self.get_field_value(field, name)[0] for name, field in self.settings_cls.model_fields.items()}
        return {name: value for name, value in found.items() if value is not None}


class CoreSettings(BaseSettings):
    """What every process needs; a service adds its own fields under its own name.

    Each field is read from ``PUMPWATCH_<FIELD>``, or from the file named by ``PUMPWATCH_<FIELD>_FILE``.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    kafka: str = "127.0.0.1:9092"
    """Bootstrap servers, comma separated."""
    postgres: SecretStr = SecretStr("postgresql://pumpwatch_app@127.0.0.1:5432/pumpwatch")
    """DSN of the role that the process runs as; a secret, since it may carry a password."""
    partitions: int = Field(default=24, ge=1, le=1024)
    """Partitions of the telemetry topics. Changing it moves pumps and needs a drained topic."""
    replication_factor: int = Field(default=3, ge=1, le=7)
    """Copies of each topic's data; below 3 only where `development` says that losing a disk is acceptable."""
    development: bool = False
    """One machine, one broker: no protection against losing a disk."""
    topic_prefix: str = Field(default="", pattern=r"^[A-Za-z0-9._-]*$", max_length=64)
    """Put before every topic's name, so that several systems can share one broker."""
    rules: Path = RULES
    """Folder of rule files."""
    log_level: str = Field(default="info", pattern="^(debug|info|warning|error)$")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments first, then the environment, then files that the environment names."""
        return init_settings, env_settings, FileSource(settings_cls)

    def topic(self, name: str) -> str:
        """The name on the broker of a topic."""
        return self.topic_prefix + name
