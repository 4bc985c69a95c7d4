"""`audience-stream accounts` and `keys`: the control plane without the HTTP API, for scripts and emergencies."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import typer

from audience_core.domain.partitioning import is_account
from audience_core.errors import SettingsError
from audience_core.redis.connect import connect_async
from audience_core.redis.control import ControlStore
from audience_core.settings import CoreSettings, load

accounts = typer.Typer(help="Create and list accounts.", no_args_is_help=True)
keys = typer.Typer(help="Create, list, revoke and rotate API keys.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]
Account = Annotated[str, typer.Argument(help="account id")]
KeyId = Annotated[str, typer.Argument(help="id of the key, as `keys list` shows it")]


def _call(action: Callable[[ControlStore], Awaitable[Any]]) -> Any:
    settings = load(CoreSettings)

    async def run() -> Any:
        client = connect_async(settings)
        try:
            return await action(ControlStore(client, settings.required_pepper(), settings.key_grace))
        finally:
            await client.aclose()

    return asyncio.run(run())


def _show(value: Any, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(value))
        return
    for row in value if isinstance(value, list) else [value]:
        typer.echo("  ".join(f"{name}={field}" for name, field in row.items()))


@accounts.command("create")
def create_account(account: Account, name: Annotated[str, typer.Argument()], as_json: AsJson = False) -> None:
    """Create an account.

    Example: audience-stream accounts create shop "The shop"
    """
    if not is_account(account):
        raise SettingsError(f"{account!r} can't be an account id: 1 to 64 letters, digits, `_` or `-`")
    _show(_call(lambda store: store.create_account(account, name)), as_json=as_json)


@accounts.command("list")
def list_accounts(as_json: AsJson = False) -> None:
    """List all accounts.

    Example: audience-stream accounts list --json
    """
    _show(_call(lambda store: store.accounts()), as_json=as_json)


@keys.command("create")
def create_key(account: Account, as_json: AsJson = False) -> None:
    """Create an API key; its secret is shown now and never again.

    Example: audience-stream keys create shop
    """
    _show(_call(lambda store: store.create_key(account)), as_json=as_json)


@keys.command("list")
def list_keys(account: Account, as_json: AsJson = False) -> None:
    """List the API keys of an account, without their secrets.

    Example: audience-stream keys list shop
    """
    _show(_call(lambda store: store.api_keys(account)), as_json=as_json)


@keys.command("revoke")
def revoke_key(account: Account, key_id: KeyId) -> None:
    """Revoke an API key for good; mParticle then suspends the connection.

    Example: audience-stream keys revoke shop 0123456789abcdef
    """
    _call(lambda store: store.revoke_key(account, key_id))
    typer.echo(f"key {key_id} is revoked")


@keys.command("rotate")
def rotate_key(account: Account, key_id: KeyId, as_json: AsJson = False) -> None:
    """Make a new key beside an old one, which works for AUDIENCE_KEY_GRACE (24 h) more and is revoked then.

    Example: audience-stream keys rotate shop 0123456789abcdef
    """
    _show(_call(lambda store: store.rotate_key(account, key_id)), as_json=as_json)
