"""Settings that every process shares: read once at start, frozen, and passed on as an argument."""

from __future__ import annotations

import os
import ssl
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Self

from pydantic import Field, SecretStr, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

PREFIX: Final = "PUMPWATCH_"
RULES: Final = Path(__file__).resolve().parent.parent / "alert_rules"


class KafkaSecurity(StrEnum):
    """How the conversation with Kafka is protected, by Kafka's own names."""

    PLAINTEXT = "PLAINTEXT"
    SSL = "SSL"
    SASL_PLAINTEXT = "SASL_PLAINTEXT"
    SASL_SSL = "SASL_SSL"

    @property
    def signs_in(self) -> bool:
        """Whether it asks for a user and a password."""
        return self in (KafkaSecurity.SASL_PLAINTEXT, KafkaSecurity.SASL_SSL)

    @property
    def encrypts(self) -> bool:
        """Whether it uses TLS."""
        return self in (KafkaSecurity.SSL, KafkaSecurity.SASL_SSL)


class KafkaMechanism(StrEnum):
    """How a password is shown to Kafka; PLAIN sends it as it is, and so belongs under TLS."""

    PLAIN = "PLAIN"
    SCRAM_SHA_256 = "SCRAM-SHA-256"
    SCRAM_SHA_512 = "SCRAM-SHA-512"


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

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        frozen=True,
        extra="ignore",
        hide_input_in_errors=True,  # The input may be a password.
    )

    kafka: str = "127.0.0.1:9092"
    """Bootstrap servers, comma separated."""
    kafka_security: KafkaSecurity = KafkaSecurity.PLAINTEXT
    kafka_ca_file: Path | None = None
    """PEM file of the authorities that Kafka's certificate is checked against; None: those of the system."""
    kafka_certificate_file: Path | None = None
    """PEM file of our own certificate, where Kafka asks clients for one."""
    kafka_key_file: Path | None = None
    """PEM file of that certificate's key, without a passphrase."""
    kafka_mechanism: KafkaMechanism = KafkaMechanism.SCRAM_SHA_512
    kafka_user: str = ""
    kafka_password: SecretStr = SecretStr("")
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

    @model_validator(mode="after")
    def _kafka_can_be_reached_as_set(self) -> Self:
        security, credentials = self.kafka_security, (self.kafka_user, self.kafka_password.get_secret_value())
        certificate = (self.kafka_certificate_file, self.kafka_key_file)
        if security.signs_in and not all(credentials):
            raise ValueError(f"kafka_security {security} needs kafka_user and kafka_password")
        if any(credentials) and not security.signs_in:
            raise ValueError(f"kafka_security {security} does not use kafka_user and kafka_password")
        if any((self.kafka_ca_file, *certificate)) and not security.encrypts:
            raise ValueError(
                f"kafka_security {security} uses no TLS, and so no kafka_ca_file, …_certificate_file, …_key_file"
            )
        if any(certificate) and not all(certificate):
            raise ValueError("kafka_certificate_file and kafka_key_file go together")
        _ = self.kafka_tls()
        return self

    def kafka_tls(self) -> ssl.SSLContext | None:
        """What TLS with Kafka rests on; None without TLS. Kafka's certificate and its host name are always checked.

        Raises:
            ValueError: If a file cannot be used; the text names its setting.
        """
        if not self.kafka_security.encrypts:
            return None
        try:
            context = ssl.create_default_context(cafile=self.kafka_ca_file)
        except OSError as error:
            raise ValueError(f"kafka_ca_file cannot be used: {error}") from error
        if self.kafka_certificate_file is not None:
            try:
                # With a passphrase given, an encrypted key is an error; without, the process would ask a terminal.
                context.load_cert_chain(self.kafka_certificate_file, self.kafka_key_file, password="")
            except OSError as error:
                raise ValueError(f"kafka_certificate_file or kafka_key_file cannot be used: {error}") from error
        return context

    def kafka_client(self) -> dict[str, Any]:
        """The arguments with which every client of aiokafka is made."""
        arguments: dict[str, Any] = {"bootstrap_servers": self.kafka, "security_protocol": self.kafka_security.value}
        if self.kafka_security.encrypts:
            arguments["ssl_context"] = self.kafka_tls()
        if self.kafka_security.signs_in:
            arguments["sasl_mechanism"] = self.kafka_mechanism.value
            arguments["sasl_plain_username"] = self.kafka_user
            arguments["sasl_plain_password"] = self.kafka_password.get_secret_value()
        return arguments

    def topic(self, name: str) -> str:
        """The name on the broker of a topic."""
        return self.topic_prefix + name
