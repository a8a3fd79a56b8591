"""Files of data: missing, cut short, of another kind, laid out otherwise."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

from tests.experiments.bad_inputs.bad import Arrange, Bad, cut, folder_instead, gone, write

MNIST = "--data=MNISTDataModule --data.download=false --data.data_dir=mine --model=LitLogisticRegression"
CIFAR = MNIST.replace("MNISTDataModule", "tests.data.tiny_cifar10.TinyCIFAR10DataModule")
TEXT = "fit lstm_text --data.path=story.txt --data.sequence_length=8 --data.batch_size=4"
RAW, BATCHES = Path("mine/MNIST/raw"), Path("mine/cifar-10-batches-py")
IMAGES, LABELS, TEST = (
    RAW / f"{name}-ubyte" for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3")
)
DAMAGED = ("Delete it", "replace it with a complete copy")


def mnist(offender: str | tuple[str, ...], remedy: str | tuple[str, ...], offence: Arrange, verb: str = "fit") -> Bad:
    """MNIST with a file spoilt."""
    return Bad(f"{verb} {MNIST}", offender, remedy, given="mnist", offence=offence)


def cifar(offender: str | tuple[str, ...], remedy: str | tuple[str, ...], offence: Arrange) -> Bad:
    """CIFAR-10 with a file spoilt."""
    return Bad(f"fit {CIFAR}", offender, remedy, given="cifar", offence=offence)


def text(offender: str | tuple[str, ...], remedy: str, offence: Arrange) -> Bad:
    """A text file spoilt."""
    return Bad(TEXT, offender, remedy, given="story", offence=offence)


def packed(content: bytes) -> Arrange:
    """The images are there in a `.gz` alone, that holds this."""

    def action() -> None:
        IMAGES.unlink()
        IMAGES.with_name(f"{IMAGES.name}.gz").write_bytes(content)

    return action


FILES: dict[str, Bad] = {
    "no MNIST": mnist(
        ("MNIST is not complete", "train-images-idx3-ubyte", "mine"),
        ("LITLAB_DATA_DIR", "--data.data_dir"),
        gone(Path("mine")),
    ),
    "MNIST without its labels": mnist("train-labels-idx1-ubyte not found", "--data.data_dir", gone(LABELS)),
    "data folder that is a file": Bad(
        f"fit {MNIST.replace('=mine', '=story.txt')}",
        ("MNIST is not complete", "story.txt"),
        "--data.data_dir",
        f"fit {MNIST}",
        given=("mnist", "story"),
    ),
    "MNIST images that are a folder": mnist(
        "train-images-idx3-ubyte not found", "--data.data_dir", folder_instead(IMAGES)
    ),
    "MNIST images cut short": mnist(
        (str(IMAGES), "has 5000 bytes, but its header describes"), DAMAGED, cut(IMAGES, 5000)
    ),
    "MNIST images of no bytes": mnist(f"{IMAGES} is truncated after 0 bytes", DAMAGED, cut(IMAGES, 0)),
    "MNIST images with more at the end": mnist(
        str(IMAGES), DAMAGED, lambda: IMAGES.write_bytes(IMAGES.read_bytes() + b"x")
    ),
    "MNIST labels in place of the images": mnist(
        (str(IMAGES), "begins with 2049, expected 2051"), DAMAGED, lambda: IMAGES.write_bytes(LABELS.read_bytes())
    ),
    "MNIST images that are a web page": mnist(
        f"{IMAGES} is not an idx file", DAMAGED, write(str(IMAGES), "<html>404 Not Found</html>" * 9)
    ),
    "MNIST images still packed": mnist(
        f"{IMAGES} is not an idx file", DAMAGED, lambda: IMAGES.write_bytes(gzip.compress(IMAGES.read_bytes()))
    ),
    "MNIST images of another size": mnist(
        ("images of shape (1, 2, 2)", "mine"),
        "Replace",
        write(str(IMAGES), struct.pack(">4I", 2051, 60, 2, 2) + bytes(240)),
    ),
    "MNIST with fewer labels": mnist(
        ("60 samples but 7 labels", "mine"), "Replace", write(str(LABELS), struct.pack(">2I", 2049, 7) + bytes(7))
    ),
    "MNIST with a label of eleven": mnist(
        ("the label 11, expected 0 to 9", "mine"),
        "Replace",
        write(str(LABELS), struct.pack(">2I", 2049, 60) + bytes([11] * 60)),
    ),
    "MNIST of no samples": mnist(
        f"{IMAGES} contains no samples",
        DAMAGED,
        lambda: (
            IMAGES.write_bytes(struct.pack(">4I", 2051, 0, 28, 28)),
            LABELS.write_bytes(struct.pack(">2I", 2049, 0)),
        ),
    ),
    "packed MNIST cut short": mnist(
        (f"{IMAGES}.gz", "corrupted"), "Replace it", packed(gzip.compress(bytes(50000))[:40])
    ),
    "packed MNIST that is text": mnist((f"{IMAGES}.gz", "corrupted"), "Replace it", packed(b"not found")),
    "packed MNIST of something else": mnist(f"{IMAGES}.gz is corrupted", "Replace it", packed(gzip.compress(b"hello"))),
    "MNIST test images cut short": mnist((str(TEST), "has 500 bytes"), DAMAGED, cut(TEST, 500), "data"),
    "CIFAR batch cut short": cifar(
        (str(BATCHES / "data_batch_3"), "(1000 bytes) has the checksum"), DAMAGED, cut(BATCHES / "data_batch_3", 1000)
    ),
    "CIFAR batch of no bytes": cifar(
        (str(BATCHES / "data_batch_1"), "(0 bytes)"), DAMAGED, cut(BATCHES / "data_batch_1", 0)
    ),
    "CIFAR batch gone": cifar("data_batch_5 not found", "--data.data_dir", gone(BATCHES / "data_batch_5")),
    "CIFAR names that are text": cifar(
        str(BATCHES / "batches.meta"), DAMAGED, write(str(BATCHES / "batches.meta"), "cat dog")
    ),
    "text that is not there": text("file not found: story.txt", "--data.path", gone(Path("story.txt"))),
    "text that is a folder": text("file not found: story.txt", "--data.path", folder_instead(Path("story.txt"))),
    "text of no letters": text("story.txt", "Use a longer text", write("story.txt", "")),
    "text too short": text(("sequence_length: 8", "story.txt"), "Use a longer text", write("story.txt", "short " * 9)),
    "text in Latin-1": text(
        ("story.txt is not text in UTF-8", "byte 3"), "Convert it", write("story.txt", b"caf\xe9 " * 99)
    ),
    "text that is a program": text(
        "story.txt is not text in UTF-8", "Convert it", write("story.txt", b"\x7fELF\x02\x80" * 99)
    ),
}
