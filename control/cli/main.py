"""`headrace`: the command line. The commands stand in the modules beside; what they do, in control/ and flows/."""

from __future__ import annotations

import typer

from control.cli import call, dead_letters, doctor, look, measure, rollout, snapshot, source, start, state

app = typer.Typer(
    name="headrace",
    help="Keeps target tables equal to the change streams of their sources, and proves it.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(start.run)
app.command("check")(look.check)
app.command("doctor")(doctor.doctor)
app.command("status")(look.status)
app.command("verify")(look.verify)
app.command("state")(state.state)
app.command("rollout")(rollout.rollout)
app.command("snapshot")(snapshot.snapshot)
app.command("call")(call.call)
app.command("bench")(measure.bench)
app.command("demo")(measure.demo)
app.command("version")(look.version)
app.add_typer(dead_letters.app, name="dead-letters")
app.add_typer(source.app, name="source")
