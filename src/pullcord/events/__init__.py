"""Ready-made events: files and web addresses.

Each is a class that the worker polls, and a function that declares an event with it. The arguments of the function
become the event's parameters, so people can change them at run time.
"""

# A function is called like its module. Imported here it takes the name, whoever imports the module later.
from pullcord.events.endpoint import Endpoint, endpoint
from pullcord.events.files import FileWatcher, files

__all__ = [
    "Endpoint",
    "FileWatcher",
    "endpoint",
    "files",
]
