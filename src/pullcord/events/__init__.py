"""Ready-made events: files, web addresses, database rows, queue depths, health.

Each is a class that the worker polls, and a function that declares an event with it. The arguments of the function
become the event's parameters, so people can change them at run time.
"""

# A function is called like its module. Imported here it takes the name, whoever imports the module later.
from pullcord.events.depth import QueueDepth, depth
from pullcord.events.endpoint import Endpoint, endpoint
from pullcord.events.files import FileWatcher, files
from pullcord.events.health import HealthCheck, health
from pullcord.events.rows import NewRows, rows

__all__ = [
    "Endpoint",
    "FileWatcher",
    "HealthCheck",
    "NewRows",
    "QueueDepth",
    "depth",
    "endpoint",
    "files",
    "health",
    "rows",
]
