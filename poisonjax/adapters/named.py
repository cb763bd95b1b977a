"""A network that somebody names, whatever framework it is of."""

import sys

from poisonjax.adapters.frameworks import from_torch
from poisonjax.adapters.maite import from_maite, is_model
from poisonjax.types import LogitsFn


def adapted(network) -> LogitsFn:
    """A JAX function of the network that somebody names: a torch.nn.Module, a class of them, or a MAITE model.

    Anything else is taken to be such a function already. A module is put in evaluation mode. A class is called without
    arguments, so it must load its weights itself. ValueError, one line, as `from_torch`, or if the class cannot be
    called so.
    """
    torch = sys.modules.get("torch")
    modules = torch.nn.Module if torch else ()  # without it there are none
    if isinstance(network, type) and issubclass(network, modules):
        try:
            network = network()
        except Exception as error:  # whatever the code of a user raises
            raise ValueError(f"{network.__name__}() fails, without arguments: {error}") from error
    if isinstance(network, modules):
        network.eval()
    if is_model(network):
        return from_maite(network)
    return from_torch(network) if isinstance(network, modules) else network
