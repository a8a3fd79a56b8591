"""`litlab board`: TensorBoard on this machine alone, at a free port, until Ctrl-C."""

from __future__ import annotations

import logging
import socket
import time
import warnings
from pathlib import Path

from experiments.messages.errors import UserMistake
from experiments.messages.text import say, shown
from experiments.runs.find import find_run, runs_dir

HOST, USUAL_PORT = "127.0.0.1", 6006


def main(words: list[str]) -> int:
    """Start TensorBoard, print its address, and wait."""
    folder, port = _read(words)
    if port is not None and not _is_free(port):
        raise UserMistake(f"board: port {port} is taken; leave --port out for a free one.")
    try:
        _serve(folder, port)
    except KeyboardInterrupt:
        say("litlab: the board is closed.")
    return 0


def _serve(folder: Path, port: int | None) -> None:
    warnings.simplefilter("ignore")  # TensorBoard's own
    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    from tensorboard.program import TensorBoard, TensorBoardServerException

    board = TensorBoard()
    board.configure(
        argv=[
            None,
            f"--logdir={folder.resolve()}",
            f"--host={HOST}",
            f"--port={port or free_port()}",
            "--reload_interval=5",
            "--load_fast=false",
        ]
    )
    try:
        address = board.launch()
    except TensorBoardServerException as problem:  # somebody took the port in between
        raise UserMistake(f"board: TensorBoard does not start ({problem}). Try again.") from problem
    print(f"board   {shown(folder)}: {address}", flush=True)
    if next(folder.rglob("events.out.tfevents.*"), None) is None:
        print("        no run there yet; what is trained from now on appears", flush=True)
    print("stop    Ctrl-C", flush=True)
    while True:
        time.sleep(3600)


def _read(words: list[str]) -> tuple[Path, int | None]:
    """The folder to show and the port, if one was asked for."""
    folders: list[str] = []
    port: int | None = None
    rest = iter(words)
    for word in rest:
        name, _, value = word.partition("=")
        if name == "--port":
            port = _port(value or next(rest, ""))
        elif word.startswith("-"):
            raise UserMistake(f"board: '{word}' is not an option; there is --port N.")
        else:
            folders.append(word)
    if len(folders) > 1:
        raise UserMistake(f"board: give one folder, not {len(folders)}; `litlab board` shows all runs.")
    folder = Path(folders[0]) if folders else runs_dir()
    if not folder.is_dir() and folders:
        below = runs_dir() / folders[0]
        folder = below if below.is_dir() else folder if folder.exists() else find_run(folders[0])
    if not folder.is_dir():
        what = "is not there yet; `litlab fit` makes the first run"
        if folder.exists():
            what = f"is a file; give {'a folder' if folders else 'LITLAB_RUNS_DIR a folder'} of runs"
        raise UserMistake(f"board: {folder} {what}.")
    return folder, port


def _port(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise UserMistake(f"board: --port needs a number from 1 to 65535, not '{text}'.")
    return int(text)


def free_port() -> int:
    """TensorBoard's usual port, or another that nobody listens at."""
    if _is_free(USUAL_PORT):
        return USUAL_PORT
    with socket.socket() as found:
        found.bind((HOST, 0))
        return int(found.getsockname()[1])


def _is_free(port: int) -> bool:
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((HOST, port))
        except OSError:
            return False
    return True
