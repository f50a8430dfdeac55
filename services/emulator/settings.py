"""What the emulator needs to know beside the shared settings."""

from __future__ import annotations

from typing import Self

import msgspec
from pydantic import Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from services.emulator.gateway import DEFAULT_CAPACITY, Identity
from streams.settings import CoreSettings

_TOKENS = msgspec.json.Decoder(dict[str, str])


class Settings(CoreSettings):
    """Which scenario runs, and as which gateways."""

    model_config = SettingsConfigDict(hide_input_in_errors=True)  # The input may be a token.

    emulator_metrics_host: str = "127.0.0.1"
    emulator_metrics_port: int = Field(default=9105, ge=0, le=65535)
    emulator_ingest_url: str = Field(default="http://127.0.0.1:8081", pattern=r"^https?://[^\s]+$")
    emulator_scenario: str = "demo"
    """A scenario that comes with Pumpwatch, or the path of a ``.yaml`` file."""
    emulator_seed: int = 1
    emulator_run: int | None = Field(default=None, ge=0)
    """Tells runs apart: names the pumps that are new in each run. Give the same number, such as the start in seconds
    since 1970, to ``profiles`` and to the emulator; the time of the start when left out."""
    emulator_gateway_id: str = "home-1"
    """The gateway under which every gateway of the scenario reports that has no token of its own."""
    emulator_gateway_token: SecretStr = SecretStr("")
    emulator_gateway_tokens: SecretStr = SecretStr("{}")
    """Tokens of further gateways as JSON, by gateway id; ids are the names in the scenario."""
    emulator_buffer_reports: int = Field(default=DEFAULT_CAPACITY, ge=1, le=1_000_000)
    """Reports that each gateway holds at most."""

    @model_validator(mode="after")
    def _tokens_are_a_map(self) -> Self:
        _ = self.tokens
        return self

    @property
    def tokens(self) -> dict[str, SecretStr]:
        """Tokens by gateway id.

        Raises:
            ValueError: If they are not a JSON object of strings; the text never shows a token.
        """
        try:
            found = _TOKENS.decode(self.emulator_gateway_tokens.get_secret_value())
        except msgspec.DecodeError:
            raise ValueError("emulator_gateway_tokens must be a JSON object of strings") from None
        return {gateway_id: SecretStr(token) for gateway_id, token in found.items()}

    def identity(self, gateway: str) -> Identity:
        """As whom a gateway of the scenario reports."""
        token = self.tokens.get(gateway)
        if token is not None:
            return Identity(gateway, token)
        return Identity(self.emulator_gateway_id, self.emulator_gateway_token)
