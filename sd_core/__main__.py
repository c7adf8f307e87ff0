"""The command line: python -m sd_core generate | restore | train | data."""

import sys

import typer

from sd_core.cli.data import pack
from sd_core.cli.generate import generate
from sd_core.cli.restore import restore
from sd_core.cli.train import train

BAD_INPUT, BUG = 2, 1

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
data_app = typer.Typer(no_args_is_help=True, help="Prepare pictures to train on.")
for command in (generate, restore, train):
    app.command()(command)
data_app.command()(pack)
app.add_typer(data_app, name="data")


def main() -> None:
    """Runs the command line. What a user can cause is one sentence and exit code 2; a bug is a traceback with a
    reference to tell of it by, and exit code 1."""
    from sd_core.errors import UserError, logged

    try:
        app()
    except (UserError, OSError) as error:
        print(error, file=sys.stderr)
        sys.exit(BAD_INPUT)
    except Exception as error:
        print(f"Something went wrong inside the program (reference {logged(error)}).", file=sys.stderr)
        sys.exit(BUG)


if __name__ == "__main__":
    main()
