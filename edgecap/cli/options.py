"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path

import click

data_option = click.option(
    "--data",
    type=click.Path(path_type=Path),
    required=True,
    envvar="EDGECAP_DATA",
    help="Captions in Karpathy's JSON, or the folder that holds dataset*.json and images/.  [env: EDGECAP_DATA]",
)
photos_option = click.option(
    "--photos", type=click.Path(path_type=Path), help="Photo folder, if it is not images/ beside the captions file."
)
