"""`python -m pullcord` is the `pullcord` command."""

from pullcord.cli.main import main

if __name__ == "__main__":
    main()
