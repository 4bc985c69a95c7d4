"""The command line `audience-stream`."""

import os
import sys
from typing import Annotated

import typer

from audience_core.errors import AudienceError, SettingsError
from audience_core.kafka.admin import TopicAdmin
from audience_core.settings import CoreSettings, load
from audience_stream import control_commands, dlq
from audience_stream.config_command import config
from audience_stream.replay import replay
from audience_stream.reset_offsets import reset_offsets
from audience_stream.simulate import simulate
from audience_stream.stack import up
from audience_stream.status import status
from audience_stream.verify import verify

EXIT_FAILED = 1
EXIT_USAGE = 2

app = typer.Typer(
    help="Receives mParticle audiences in real time and serves them to AB Tasty.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
topics = typer.Typer(help="Make and check the Kafka topics.", no_args_is_help=True)
app.add_typer(topics, name="topics")
app.add_typer(control_commands.accounts, name="accounts")
app.add_typer(control_commands.keys, name="keys")
dlq.app.command()(replay)
app.add_typer(dlq.app, name="dlq")
for command in (up, status, verify, reset_offsets, simulate, config):
    app.command()(command)


@app.command()
def gateway() -> None:
    """Run the gateway: Firehose requests in, Kafka records out.

    Example: AUDIENCE_GATEWAY_PORT=8080 audience-stream gateway
    """
    from ingest_gateway.main import run

    raise typer.Exit(run())


@app.command()
def worker(
    accept_partial_rebuild: Annotated[
        bool, typer.Option(help="rebuild from a log whose start retention has deleted already")
    ] = False,
) -> None:
    """Run a membership worker: Kafka records in, Redis sets and counts out.

    Example: AUDIENCE_METRICS_PORT=0 audience-stream worker
    """
    from membership_worker.main import run

    if accept_partial_rebuild:
        os.environ["AUDIENCE_ACCEPT_PARTIAL_REBUILD"] = "true"
    raise typer.Exit(run())


@app.command()
def indexer() -> None:
    """Run the audience indexer: counts in, the populated listing out.

    Example: audience-stream indexer
    """
    from audience_indexer.main import run

    raise typer.Exit(run())


@app.command()
def api() -> None:
    """Run the segment API: segments for SDKs, control and listing for people.

    Example: AUDIENCE_API_PORT=8081 audience-stream api
    """
    from audience_stream.replay import put_back_of
    from segment_api.main import run

    raise typer.Exit(run(put_back_of))


@topics.command("create")
def create_topics() -> None:
    """Create the missing topics and check all of them; exit 1 when one is not as the settings want it.

    Example: AUDIENCE_SHARDS=64 audience-stream topics create
    """
    created = TopicAdmin(load(CoreSettings)).create_missing()
    typer.echo(f"created: {', '.join(created) or 'none'}; all topics are as the settings want them")


def main() -> None:
    """Run a command. An expected error is one line on standard error: exit 2 for settings, 1 for all else."""
    try:
        app(prog_name="audience-stream")
    except SettingsError as error:
        sys.stderr.write(f"audience-stream: {error}\n")
        sys.exit(EXIT_USAGE)
    except AudienceError as error:
        sys.stderr.write(f"audience-stream: {error}\n")
        sys.exit(EXIT_FAILED)
