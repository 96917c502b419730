"""The command line: arguments, and nothing else. Everything a command needs is imported when it runs."""
