"""`python -m quarterdeck_cli`: the command where it is not installed."""

from quarterdeck_cli.main import run

if __name__ == "__main__":
    run()
