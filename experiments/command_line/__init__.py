"""Command line: parser, help pages and exit codes."""
