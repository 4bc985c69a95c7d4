"""`/v1/accounts`: accounts, connectors and API keys."""

from fastapi import APIRouter, Response

from audience_core.redis.control import ControlStore
from segment_api.errors import ERROR_ANSWERS, ErrorAnswer
from segment_api.health import HealthReader
from segment_api.models import (
    Account,
    AccountRequest,
    Accounts,
    ApiKey,
    ApiKeys,
    ConnectorRequest,
    Connectors,
    ConnectorWithHealth,
    NewKey,
)


def control_router(store: ControlStore, health: HealthReader) -> APIRouter:
    """Routes of the control plane."""
    router = APIRouter(prefix="/v1/accounts", responses=ERROR_ANSWERS)
    _add_accounts(router, store)
    _add_connectors(router, store, health)
    _add_keys(router, store)
    return router


def _add_accounts(router: APIRouter, store: ControlStore) -> None:
    @router.post("", status_code=201, responses={409: {"model": ErrorAnswer, "description": "the id is taken"}})
    async def create_account(request: AccountRequest) -> Account:
        return Account(**await store.create_account(request.id, request.name))

    @router.get("")
    async def list_accounts() -> Accounts:
        return Accounts(accounts=[Account(**found) for found in await store.accounts()])

    @router.get("/{account}")
    async def read_account(account: str) -> Account:
        return Account(**await store.account(account))


def _add_connectors(router: APIRouter, store: ControlStore, health: HealthReader) -> None:
    @router.post("/{account}/connectors", status_code=201)
    async def create_connector(account: str, request: ConnectorRequest) -> ConnectorWithHealth:
        created = await store.create_connector(account, request.provider, request.name, request.partner)
        return ConnectorWithHealth(**created, health=await health.of(account))

    @router.get("/{account}/connectors")
    async def list_connectors(account: str) -> Connectors:
        stored, now = await store.connectors(account), await health.of(account)
        return Connectors(connectors=[ConnectorWithHealth(**found, health=now) for found in stored])

    @router.get("/{account}/connectors/{connector_id}")
    async def read_connector(account: str, connector_id: str) -> ConnectorWithHealth:
        stored = await store.connector(account, connector_id)
        return ConnectorWithHealth(**stored, health=await health.of(account))

    @router.delete("/{account}/connectors/{connector_id}", status_code=204)
    async def delete_connector(account: str, connector_id: str) -> Response:
        await store.delete_connector(account, connector_id)
        return Response(status_code=204)


def _add_keys(router: APIRouter, store: ControlStore) -> None:
    @router.post("/{account}/api-keys", status_code=201)
    async def create_api_key(account: str, response: Response) -> NewKey:
        response.headers["Cache-Control"] = "no-store"
        return NewKey(**await store.create_key(account))

    @router.get("/{account}/api-keys")
    async def list_api_keys(account: str) -> ApiKeys:
        return ApiKeys(api_keys=[ApiKey(**found) for found in await store.api_keys(account)])

    @router.delete("/{account}/api-keys/{key_id}", status_code=204)
    async def revoke_api_key(account: str, key_id: str) -> Response:
        await store.revoke_key(account, key_id)
        return Response(status_code=204)

    @router.post("/{account}/api-keys/{key_id}/rotate", status_code=201)
    async def rotate_api_key(account: str, key_id: str, response: Response) -> NewKey:
        response.headers["Cache-Control"] = "no-store"
        return NewKey(**await store.rotate_key(account, key_id))
