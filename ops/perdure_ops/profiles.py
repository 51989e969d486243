"""Connection profiles on the command line: ``--profile`` and ``--config-file``, anywhere among the arguments.

What a profile says is what options that are not given default to; an option of the command line wins over its variable,
and that over the profile. Called by :mod:`perdure_ops.cli`; cheap if no profile is asked for and the user has no file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perdure_ops.errors import CliError

if TYPE_CHECKING:
    from perdure.envconfig import ClientConfigProfile

PROFILE_OPTION, FILE_OPTION = "--profile", "--config-file"
PROFILE_VARIABLE, FILE_VARIABLE = "PERDURE_PROFILE", "PERDURE_CONFIG_FILE"
_ADDRESS_VARIABLE = "PERDURE_ADDRESS"


def to_front(arguments: Sequence[str]) -> list[str]:
    """The arguments with the options of this module in front, where the root command reads them. Pure.

    What stands behind ``--`` stays where it is.
    """
    front: list[str] = []
    rest: list[str] = []
    remaining = list(arguments)
    while remaining:
        argument = remaining.pop(0)
        if argument == "--":
            rest += [argument, *remaining]
            break
        if argument in (PROFILE_OPTION, FILE_OPTION):
            front += [argument, *remaining[:1]]
            remaining = remaining[1:]
        elif argument.startswith((f"{PROFILE_OPTION}=", f"{FILE_OPTION}=")):
            front.append(argument)
        else:
            rest.append(argument)
    return front + rest


def option_values(profile: str | None, config_file: Path | None) -> dict[str, str]:
    """What a profile says, by the names of the commands' parameters.

    Args:
        profile: Its name, or ``None`` for the default one.
        config_file: The file, or ``None`` for the user's own.

    Raises:
        CliError: there is no such file or profile, or it is wrong.
    """
    from perdure.envconfig import ClientConfigProfile

    try:
        found = ClientConfigProfile.load(profile, config_source=config_file)
        connect = found.to_client_connect_config()
        _refuse_unsupported(found)
    except ValueError as error:
        raise CliError(str(error)) from error
    address = connect.get("target_host")
    if address and os.environ.get(_ADDRESS_VARIABLE):
        # The variable wins over the profile's address; it must not lose the profile's options.
        os.environ[_ADDRESS_VARIABLE] = address
    values = {
        "address": address,
        "namespace": found.namespace,
        "codec_endpoint": found.codec_endpoint,
        "codec_auth": found.codec_auth,
    }
    return {name: value for name, value in values.items() if value}


def _refuse_unsupported(profile: ClientConfigProfile) -> None:
    given = [name for name, value in (("api_key", profile.api_key), ("grpc_meta", profile.grpc_meta)) if value]
    if given:
        raise CliError(
            f"the profile has {' and '.join(given)}, which mean nothing here: credentials for Kafka are options in"
            " its table kafka, for example sasl.username"
        )


def defaults_for(command: Any, values: Mapping[str, str]) -> dict[str, Any]:
    """The defaults of a command's parameters and of those of all commands below it. Pure."""
    names = {parameter.name for parameter in command.params}
    found: dict[str, Any] = {name: value for name, value in values.items() if name in names}
    for name, inner in getattr(command, "commands", {}).items():
        found[name] = defaults_for(inner, values)
    return found
