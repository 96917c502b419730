"""`python -m kubelite` is the command `kubelite`."""

from kubelite.cli.main import main

if __name__ == "__main__":
    main()
