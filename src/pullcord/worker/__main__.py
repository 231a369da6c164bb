"""`python -m pullcord.worker DESCRIPTOR PARENT`: how the server starts a template process."""

import sys

from pullcord.worker.template import main

if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
