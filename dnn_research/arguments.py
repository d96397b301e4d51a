"""The parsers of all commands but `main`: a wrong argument ends as other errors do, in one line with status 1."""

import argparse
from typing import NoReturn

from dnn_research.errors import UserError, one_line


class Parser(argparse.ArgumentParser):
    """argparse's, without its usage in front of an error and its status 2."""

    def error(self, message: str) -> NoReturn:
        """Ends the command."""
        self.exit(1, f"error: {one_line(message)}; --help lists the options\n")


class CaughtParser(argparse.ArgumentParser):
    """Whose complaints are the command's, which parses where it catches its errors."""

    def error(self, message: str) -> NoReturn:
        """Raises UserError."""
        raise UserError(f"{message}; --help lists the options")
