"""Show runs in TensorBoard, on this machine only (127.0.0.1), until Ctrl-C."""

from __future__ import annotations

import logging
import socket
import time
import warnings
from argparse import ArgumentParser, Namespace
from pathlib import Path

from experiments.messages.errors import UserError
from experiments.messages.formatting import say, shown
from experiments.runs.find import find_run, runs_dir

HOST, DEFAULT_PORT = "127.0.0.1", 6006


def add_options(parser: ArgumentParser) -> None:
    """Add the argument DIR and the option --port."""
    parser.add_argument("folders", nargs="*", metavar="DIR", help="a folder, a run or an experiment; default: all runs")
    parser.add_argument(
        "--port", nargs="?", const="", metavar="N", help=f"default: {DEFAULT_PORT}, or a free one if that is in use"
    )


def run(options: Namespace) -> int:
    """Start TensorBoard, print its address, and wait."""
    if len(options.folders) > 1:
        given = " ".join(options.folders)
        raise UserError(f"board takes one folder, got {len(options.folders)}: {given}. Pass one, or none for all runs.")
    folder = _folder(*options.folders)
    try:
        _serve(folder, free_port() if options.port is None else _port(options.port))
    except KeyboardInterrupt:
        say("litlab: TensorBoard has stopped.")
    return 0


def _serve(folder: Path, port: int) -> None:
    warnings.simplefilter("ignore")  # of TensorBoard
    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    from tensorboard.program import TensorBoard, TensorBoardServerException

    board = TensorBoard()
    where = [f"--logdir={folder.resolve()}", f"--host={HOST}", f"--port={port}"]
    board.configure(argv=[None, *where, "--reload_interval=5", "--load_fast=false"])
    try:
        address = board.launch()
    except TensorBoardServerException as error:  # another program took the port in the meantime
        raise UserError(f"board: TensorBoard does not start ({error}). Try again.") from error
    print(f"board   {shown(folder)}: {address}", flush=True)
    if next(folder.rglob("events.out.tfevents.*"), None) is None:
        print("        No runs yet. New runs will appear here.", flush=True)
    print("stop    Ctrl-C", flush=True)
    while True:
        time.sleep(3600)


def _folder(given: str | None = None) -> Path:
    folder = Path(given) if given else runs_dir()
    if given and not folder.is_dir():
        below = runs_dir() / given
        folder = below if below.is_dir() else folder if folder.exists() else find_run(given)
    if folder.is_dir():
        return folder
    if folder.exists():
        remedy = "Pass a folder of runs" if given else "Set LITLAB_RUNS_DIR to a folder of runs"
        raise UserError(f"board: {folder} is a file. {remedy}.")
    raise UserError(f"board: {folder} does not exist yet. Create the first run with `litlab fit`.")


def _port(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise UserError(f"board: --port must be a number from 1 to 65535, got '{text}'. Remove it to use a free port.")
    if not _is_free(int(text)):
        raise UserError(f"board: port {text} is in use. Remove --port to use a free one.")
    return int(text)


def free_port() -> int:
    """Return TensorBoard's default port, or a free one if it is in use."""
    if _is_free(DEFAULT_PORT):
        return DEFAULT_PORT
    with socket.socket() as free:
        free.bind((HOST, 0))
        return int(free.getsockname()[1])


def _is_free(port: int) -> bool:
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((HOST, port))
        except OSError:
            return False
    return True
