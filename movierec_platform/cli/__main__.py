"""`python -m movierec_platform.cli COMMAND`: the CLI in the interpreter that runs this, which has what it needs."""

from movierec_platform.cli.main import main

if __name__ == "__main__":
    main()
