"""The command ``gandb``."""

from __future__ import annotations

from typing import Annotated

import typer

from gandb import __version__
from gandb.cli import (
    check,
    database,
    dataset,
    demo,
    export,
    hull,
    identity,
    importing,
    job,
    lineage,
    model,
    publish,
    relax,
    report,
    schema,
    serve,
    share,
    source,
    sql,
    structure,
    sun,
    vasp,
    worker,
)
from gandb.core.config import Settings

EPILOG = """A first session:

gandb init lab

export GANDB_STORE=lab

gandb import --sample

gandb dataset create balanced --where "source = 'mp' AND cnen_strict"

gandb train matgan balanced@1 --wait

gandb generate matgan:balanced@1 -n 100000 --wait

gandb sql "SELECT reduced_formula FROM generated WHERE novel AND cnen_strict LIMIT 10"

Exit codes: 0 done, 1 failure, 2 usage, 3 not found, 4 bad input, 5 store, 6 query, 7 job,
8 missing package, 130 interrupted."""

app = typer.Typer(
    name="gandb",
    help="A versioned SQL store for generated inorganic materials.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"gandb {__version__}")
        raise typer.Exit


@app.callback()
def main_options(
    ctx: typer.Context,
    store: Annotated[
        str | None,
        typer.Option("--store", "-s", metavar="PATH|URL", help="The store; or set GANDB_STORE."),
    ] = None,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """A versioned SQL store for generated inorganic materials."""
    del version
    base = Settings.from_environment()
    ctx.obj = base if store is None else Settings(store, base.lock_timeout, base.lease_seconds)


app.command(epilog=database.INIT_EPILOG)(database.init)
app.add_typer(database.app, name="db")
app.command("schema", epilog=schema.EPILOG)(schema.schema)
app.command("import", epilog=importing.EPILOG)(importing.import_)
app.add_typer(source.app, name="source")
app.add_typer(dataset.app, name="dataset")
app.command(epilog=model.TRAIN_EPILOG)(model.train)
app.command(epilog=model.GENERATE_EPILOG)(model.generate)
app.command(epilog=model.MODELS_EPILOG)(model.models)
app.command(epilog=check.EPILOG)(check.check)
app.command(epilog=identity.IDENTIFY_EPILOG)(identity.identify)
app.command(epilog=identity.MATCH_EPILOG)(identity.match)
app.command(epilog=identity.NOVELTY_EPILOG)(identity.novelty)
app.command(epilog=relax.EPILOG)(relax.relax)
app.command(epilog=hull.EPILOG)(hull.hull)
app.command(epilog=sun.EPILOG)(sun.sun)
app.add_typer(vasp.app, name="vasp")
app.command(epilog=report.EPILOG)(report.report)
app.command(epilog=lineage.EPILOG)(lineage.lineage)
app.command(epilog=sql.EPILOG)(sql.sql)
app.command(epilog=export.EPILOG)(export.export)
app.add_typer(share.app, name="share")
app.command(epilog=publish.PUBLISH_EPILOG)(publish.publish)
app.add_typer(publish.token_app, name="token")
app.command(epilog=serve.EPILOG)(serve.serve)
app.add_typer(structure.app, name="structure")
app.add_typer(job.app, name="job")
app.command(epilog=worker.EPILOG)(worker.worker)
app.command(epilog=demo.EPILOG)(demo.demo)


def main() -> None:
    """Run the command line."""
    app()
