"""From command-line arguments to a command: parser, help, errors and exit codes."""
